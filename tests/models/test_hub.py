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
from models.catalogue import CATALOGUE
from models.errors import WeightsInvalidError, WeightsNotStoredError, WeightsUnavailableError
from models.hub import known_sha256
from models.weights import resolve
from tests.models.fake_hub import FakeHub, serving

ROOT = Path(__file__).parents[2]
WEIGHTS = os.urandom(1_000_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b"{}",
    "preprocessor_config.json": b"{ }",
    "vocab.txt": b"[PAD]\n",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"print('no')",
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "FIRST_PAUSE", 0.01)


def repository(**more: bytes) -> FakeHub:
    return FakeHub("Salesforce/blip-vqa-base", {**FILES, **more})


def blip(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    return {**CATALOGUE["blip-vqa-base"].to_config(), "cache_dir": str(folder), "base_url": url, **more}


def test_a_repository_is_fetched_without_its_pickles_and_code(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        resolved = resolve(blip(tmp_path, hub.url, sha256=SHA256))
    names = {path.name for path in resolved.path.iterdir()}
    assert names == {"model.safetensors", "config.json", "preprocessor_config.json", "vocab.txt"}
    assert resolved.sha256 == SHA256


def test_a_cached_repository_needs_no_request(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        first = resolve(blip(tmp_path, hub.url))
        num_requests = len(hub.paths)
        assert resolve(blip(tmp_path, hub.url)) == first
        assert len(hub.paths) == num_requests
    assert resolve(blip(tmp_path, hub.url, offline=True)) == first
    assert first.sha256 == SHA256


def test_the_cache_names_the_weights_by_their_hash(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
    assert known_sha256(folder / "model.safetensors") == SHA256
    elsewhere = tmp_path / "model.safetensors"
    shutil.copyfile(folder / "model.safetensors", elsewhere)
    assert known_sha256(elsewhere) is None


def test_a_repository_that_lost_a_file_is_completed(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
        (folder / "model.safetensors").resolve().unlink()
        assert resolve(blip(tmp_path, hub.url)).sha256 == SHA256


def test_a_damaged_cache_is_found_by_a_pinned_hash(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        folder = resolve(blip(tmp_path, hub.url)).path
        (folder / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1])
        with pytest.raises(WeightsInvalidError):
            resolve(blip(tmp_path, hub.url, sha256=SHA256))


def test_progress_counts_bytes(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []
    with serving(repository()) as hub:
        resolve(blip(tmp_path, hub.url), seen.append)
    total = sum(len(body) for name, body in FILES.items() if not name.endswith((".bin", ".py")))
    assert seen[-1] == {"stage": "download", "done_bytes": total, "total_bytes": total}


def test_a_repository_without_safetensors_is_unavailable(tmp_path: Path) -> None:
    hub = FakeHub(
        "Salesforce/blip-vqa-base", {k: v for k, v in FILES.items() if not k.endswith("safetensors")}
    )
    with serving(hub), pytest.raises(WeightsUnavailableError, match=r"lacks model\.safetensors"):
        resolve(blip(tmp_path, hub.url))


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_fails_is_unavailable(tmp_path: Path, status: int) -> None:
    hub = repository()
    hub.status = status
    with (
        serving(hub),
        pytest.raises(WeightsUnavailableError, match=r"pull blip-vqa-base.*HUGGINGFACE_HUB_CACHE"),
    ):
        resolve(blip(tmp_path, hub.url))


def test_an_unreachable_hub_is_unavailable(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        url = hub.url
    with pytest.raises(WeightsUnavailableError):
        resolve(blip(tmp_path, url))


def test_offline_an_absent_repository_is_unavailable_without_a_request(tmp_path: Path) -> None:
    with serving(repository()) as hub:
        with pytest.raises(WeightsUnavailableError, match="downloads are off"):
            resolve(blip(tmp_path, hub.url, offline=True))
        assert not hub.paths


def test_two_processes_at_once_download_once(tmp_path: Path) -> None:
    program = (
        "import json, sys; from models.weights import resolve; print('ready', flush=True);"
        "print(resolve(json.loads(sys.argv[1])).sha256)"
    )
    gate = threading.Event()
    hub = repository()
    hub.gate = gate
    with serving(hub), ExitStack() as stack:
        command = [sys.executable, "-c", program, json.dumps(blip(tmp_path, hub.url))]
        both = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
            for _ in range(2)
        ]
        assert [process.stdout.readline() for process in both if process.stdout] == ["ready\n", "ready\n"]
        gate.set()
        printed = [process.communicate(timeout=60)[0].strip() for process in both]
    assert printed == [SHA256, SHA256]
    fetched = [path for path in hub.paths if path.startswith("GET") and path.endswith("model.safetensors")]
    assert len(fetched) == 1


def test_weights_that_are_not_what_the_hub_lists_are_thrown_away(tmp_path: Path) -> None:
    hub = repository()
    hub.lies = True
    with serving(hub):
        with pytest.raises(WeightsUnavailableError, match="arrived with sha256"):
            resolve(blip(tmp_path, hub.url))
        hub.lies = False
        assert resolve(blip(tmp_path, hub.url)).sha256 == SHA256


def test_a_silent_hub_is_an_error_after_the_read_timeout(tmp_path: Path) -> None:
    hub = repository()
    hub.gate = threading.Event()
    with serving(hub), pytest.raises(WeightsUnavailableError, match="Timeout"):
        try:
            resolve(blip(tmp_path, hub.url, connect_timeout=1.0, read_timeout=0.3))
        finally:
            hub.gate.set()


def test_a_cache_of_the_hub_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(repository()) as hub, pytest.raises(WeightsNotStoredError, match="HUGGINGFACE_HUB_CACHE"):
        resolve(blip(tmp_path / "file" / "hub", hub.url))
