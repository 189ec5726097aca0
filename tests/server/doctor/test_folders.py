from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from server.doctor.folders import Folder, check_cache, check_folders, hub_folder, read_folder
from server.doctor.sizes import GIB, MIB
from tests.server.doctor.machine import settings_of

GOOD = Folder(Path("/models"), True, True, 50 * GIB)


def test_a_folder_that_can_be_written_is_ok_also_if_it_is_still_to_be_made() -> None:
    assert check_cache(GOOD, "weights", "X", "problem").status == "ok"
    assert "to be made" in check_cache(replace(GOOD, exists=False), "weights", "X", "problem").text


def test_a_folder_that_cannot_be_written_is_as_bad_as_the_need_for_it() -> None:
    closed = replace(GOOD, is_writable=False)
    assert [check_cache(closed, "weights", "X", need).status for need in ("ok", "warning", "problem")] == [
        "ok",
        "warning",
        "problem",
    ]
    found = check_cache(closed, "weights", "ULTRALYTICS_CACHE_DIR", "problem")
    assert (
        "cannot be written to" in found.text
        and "chown" in found.remedy
        and "ULTRALYTICS_CACHE_DIR=" in found.remedy
    )


def test_little_space_is_a_warning_where_something_may_be_downloaded() -> None:
    full = replace(GOOD, free=100 * MIB)
    assert check_cache(full, "weights", "X", "warning").status == "warning"
    assert check_cache(full, "weights", "X", "ok").status == "ok"


def test_a_folder_is_tried_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    found = read_folder(tmp_path)
    assert (found.exists, found.is_writable) == (True, True) and found.free > 0
    assert list(tmp_path.iterdir()) == []
    below = read_folder(tmp_path / "a" / "b")
    assert (below.exists, below.is_writable) == (False, True)
    (tmp_path / "file").touch()
    assert not read_folder(tmp_path / "file" / "c").is_writable
    assert not read_folder(Path("/proc")).is_writable, "not even root may"


def test_every_folder_is_looked_at_and_named_by_its_variable(tmp_path: Path) -> None:
    settings = settings_of(
        ultralytics_cache_dir="/proc/yolo",
        huggingface_hub_cache=tmp_path / "hub",
        yolo_config_dir="/proc/config",
    )
    findings = check_folders(settings, {}, frozenset())
    assert [each.status for each in findings if each.name == "folder"] == [
        "warning",
        "ok",
        "warning",
        "warning",
    ]
    assert "ULTRALYTICS_CACHE_DIR=" in findings[0].remedy
    assert check_folders(settings, {}, frozenset({"ultralytics"}))[0].status == "problem"
    offline = settings_of(offline=True, ultralytics_cache_dir="/proc/yolo")
    assert check_folders(offline, {}, frozenset())[0].status == "ok"


@pytest.mark.parametrize(
    ("runtime", "status"), [("auto", "warning"), ("openvino", "warning"), ("torch", "ok")]
)
def test_converted_networks_that_cannot_be_kept_are_warned_of(
    tmp_path: Path, runtime: str, status: str
) -> None:
    settings = settings_of(
        runtime=runtime, converted_dir="/proc/converted", ultralytics_cache_dir=tmp_path, offline=True
    )
    (found,) = [each for each in check_folders(settings, {}, frozenset()) if "/proc/converted" in each.text]
    assert found.status == status
    assert ("ENGINE_CONVERTED_DIR=" in found.remedy) == (status == "warning")


def test_weights_in_the_temporary_folder_are_warned_of() -> None:
    below = Path(tempfile.gettempdir()) / "weights-of-a-test"
    settings = settings_of(ultralytics_cache_dir=below, huggingface_hub_cache="/proc/x")
    found = [each for each in check_folders(settings, {}, frozenset()) if each.name == "temporary"]
    assert [each.remedy for each in found] == ["ULTRALYTICS_CACHE_DIR= a folder on a volume"]


def test_no_temporary_folder_at_all_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    (found,) = check_folders(settings_of(), {}, frozenset())
    assert found.status == "problem" and "--tmpfs /tmp" in found.remedy


def test_the_hubs_folder_follows_its_own_rules(tmp_path: Path) -> None:
    assert hub_folder(settings_of(huggingface_hub_cache=tmp_path), {}) == tmp_path
    assert hub_folder(settings_of(hf_home=tmp_path), {}) == tmp_path / "hub"
    assert hub_folder(settings_of(), {"HF_HUB_CACHE": "/a"}) == Path("/a")
    assert hub_folder(settings_of(), {"XDG_CACHE_HOME": "/b"}) == Path("/b/huggingface/hub")


def test_a_settings_file_that_all_may_write_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "engine.toml"
    path.write_text("port = 5000\n")
    for mode, status in ((0o644, "ok"), (0o666, "warning")):
        path.chmod(mode)
        found = [
            each for each in check_folders(settings_of(config=path), {}, frozenset()) if each.name == "config"
        ]
        assert [each.status for each in found] == [status]
