from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from models import tries
from models.catalogue import CATALOGUE, operator_entry
from models.errors import WeightsInvalidError, WeightsNotStoredError, WeightsUnavailableError
from models.weights import ZIP_MAGIC, release_address, resolve
from tests.models.file_server import ServedFile, serving

BODY = ZIP_MAGIC + os.urandom(2_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


def yolov8n(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    given = {"cache_dir": str(folder), "base_url": url, "connect_timeout": 2.0, "read_timeout": 5.0}
    return {**CATALOGUE["yolov8n"].to_config(), **given, **more}


def test_absent_weights_are_fetched_into_the_cache_folder(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    with serving(ServedFile(BODY)) as file:
        resolved = resolve(yolov8n(folder, file.url, sha256=SHA256))
    assert resolved.path == folder / "yolov8n.pt"
    assert resolved.path.read_bytes() == BODY
    assert resolved.sha256 == SHA256


def test_weights_in_the_cache_need_no_network(tmp_path: Path) -> None:
    (tmp_path / "yolov8n.pt").write_bytes(BODY)
    resolved = resolve(yolov8n(tmp_path, "http://127.0.0.1:9", offline=True))
    assert resolved.sha256 == SHA256


def test_a_read_only_cache_with_the_weights_in_it_is_enough(tmp_path: Path) -> None:
    (tmp_path / "yolov8n.pt").write_bytes(BODY)
    tmp_path.chmod(0o500)
    try:
        assert resolve(yolov8n(tmp_path, "http://127.0.0.1:9")).sha256 == SHA256
        assert [path.name for path in tmp_path.iterdir()] == ["yolov8n.pt"]
    finally:
        tmp_path.chmod(0o700)


def test_offline_absent_weights_are_unavailable_without_a_request(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        with pytest.raises(WeightsUnavailableError) as caught:
            resolve(yolov8n(tmp_path, file.url, offline=True))
        assert not file.requests
    assert (caught.value.code, caught.value.permanent) == ("weights_unavailable", False)
    for word in ("inference-engine pull yolov8n", "ULTRALYTICS_CACHE_DIR", str(tmp_path)):
        assert word in str(caught.value)


def test_a_failed_download_says_what_to_do_and_may_be_tried_again(tmp_path: Path) -> None:
    with serving(ServedFile(BODY, status=503)) as file:
        with pytest.raises(WeightsUnavailableError, match=r"503.*Check network.*pull yolov8n") as caught:
            resolve(yolov8n(tmp_path, file.url))
        assert not caught.value.permanent
        file.status = 200
        assert resolve(yolov8n(tmp_path, file.url)).sha256 == SHA256


def test_a_refused_connection_is_unavailable(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file:
        config = yolov8n(tmp_path, file.url)
    with pytest.raises(WeightsUnavailableError):
        resolve(config)


def test_a_download_with_the_wrong_hash_is_refused_for_good_and_not_kept(tmp_path: Path) -> None:
    with serving(ServedFile(BODY)) as file, pytest.raises(WeightsInvalidError, match=SHA256) as caught:
        resolve(yolov8n(tmp_path, file.url, sha256="0" * 64))
    assert (caught.value.code, caught.value.permanent) == ("weights_invalid", True)
    assert {path.name for path in tmp_path.iterdir()} <= {"yolov8n.pt.lock"}


def test_a_login_page_instead_of_weights_is_not_kept_and_may_be_tried_again(tmp_path: Path) -> None:
    with serving(ServedFile(b"<html>sign in</html>")) as file:
        with pytest.raises(WeightsUnavailableError, match="login page"):
            resolve(yolov8n(tmp_path, file.url))
        file.body = BODY
        assert resolve(yolov8n(tmp_path, file.url)).sha256 == SHA256


def test_cached_weights_with_the_wrong_hash_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "yolov8n.pt").write_bytes(BODY[:-1])
    with pytest.raises(WeightsInvalidError):
        resolve(yolov8n(tmp_path, "http://127.0.0.1:9", sha256=SHA256))
    assert (tmp_path / "yolov8n.pt").exists()


def test_a_hash_may_be_written_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "yolov8n.pt").write_bytes(BODY)
    assert resolve(yolov8n(tmp_path, "", sha256=SHA256.upper())).sha256 == SHA256


def test_two_processes_at_once_download_once(tmp_path: Path) -> None:
    program = (
        "import json, sys; from models.weights import resolve; print('ready', flush=True);"
        "print(resolve(json.loads(sys.argv[1])).sha256)"
    )
    gate = threading.Event()
    with serving(ServedFile(BODY, gate=gate)) as file, ExitStack() as stack:
        command = [sys.executable, "-c", program, json.dumps(yolov8n(tmp_path, file.url))]
        both = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        assert [process.stdout.readline() for process in both if process.stdout] == ["ready\n", "ready\n"]
        gate.set()  # both have got to the download, one of them may have asked already
        printed = [process.communicate(timeout=60)[0].strip() for process in both]
        assert len(file.requests) == 1
    assert printed == [SHA256, SHA256]


def test_an_operators_file_is_checked_against_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.pt"
    path.write_bytes(BODY)
    assert resolve(operator_entry("mine", path, sha256=SHA256).to_config()).path == path
    with pytest.raises(WeightsInvalidError, match="mine"):
        resolve(operator_entry("mine", path, sha256="1" * 64).to_config())


def test_an_operators_absent_file_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"absent\.pt.*Put the file there"):
        resolve(operator_entry("mine", tmp_path / "absent.pt").to_config())


def test_a_folder_without_weights_is_invalid(tmp_path: Path) -> None:
    with pytest.raises(WeightsInvalidError, match=r"config\.json"):
        resolve(operator_entry("mine", tmp_path, family="blip", task="vqa").to_config())


def test_an_asset_name_cannot_leave_the_cache_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain file name"):
        resolve(yolov8n(tmp_path, "", weights="../yolov8n.pt"))


def test_progress_of_a_download_is_reported(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    with serving(ServedFile(BODY)) as file:
        resolve(yolov8n(tmp_path, file.url), seen.append)
    assert seen[-1] == {"stage": "download", "done_bytes": len(BODY), "total_bytes": len(BODY)}


def test_the_release_address_is_the_installed_librarys() -> None:
    from ultralytics.utils import downloads

    assert release_address().startswith("https://github.com/ultralytics/assets/releases/download/v8.")
    for entry in CATALOGUE.values():
        if entry.source == "ultralytics":
            assert entry.weights in downloads.GITHUB_ASSETS_NAMES


@pytest.mark.parametrize("place", ["{}/file/cache", "/proc/nonexistent"])
def test_a_folder_that_nobody_can_write_to_is_about_storage(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with serving(ServedFile(BODY)) as file, pytest.raises(WeightsNotStoredError) as caught:
        resolve(yolov8n(Path(place.format(tmp_path)), file.url))
    assert (caught.value.code, caught.value.permanent) == ("weights_not_stored", False)
    assert "Make room" in str(caught.value)


TINY_DISK = 'mount -t tmpfs -o size={size} none "$0" && exec "$@"'


@pytest.mark.parametrize(("size", "why"), [("1m", "No space left"), ("1m,ro", "Read-only file system")])
def test_a_real_disk_that_is_full_or_read_only_is_about_storage(tmp_path: Path, size: str, why: str) -> None:
    mounted = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        TINY_DISK.format(size=size),
        str(tmp_path),
    ]
    if not shutil.which("unshare") or subprocess.run([*mounted, "true"], capture_output=True).returncode:
        pytest.skip("a disk of its own cannot be mounted here")
    program = (
        "import json, sys; from models.weights import resolve; from models.errors import WeightsNotStoredError\n"
        "try: resolve(json.loads(sys.argv[1]))\nexcept WeightsNotStoredError as error: print(error)"
    )
    with serving(ServedFile(BODY)) as file:
        command = [*mounted, sys.executable, "-c", program, json.dumps(yolov8n(tmp_path, file.url))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert why in done.stdout, done.stderr
