from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.doctor.gpu_facts import Driver, Gpu, Torch, device_nodes, gpus_on_bus
from server.doctor.probe import Answer


def test_a_driver_is_read_from_its_answer_or_its_silence() -> None:
    said = {
        "driver": "580.1",
        "cuda": 13020,
        "gpus": [{"name": "H200", "capability": [9, 0], "total": 5, "free": 4}],
    }
    driver = Driver.read(Answer(said))
    assert (driver.version, driver.cuda, driver.error) == ("580.1", (13, 2), "")
    assert driver.gpus == (Gpu("H200", "", (9, 0), 5, 4),)
    assert Driver.read(Answer({"error": "NoPermission", "text": "no"})).error == "NoPermission"
    assert Driver.read(Answer(failure="no answer", is_late=True)).error == "Late"
    assert Driver.read(Answer(failure="killed by SIGSEGV")).error == "Crashed"


def test_torch_is_read_as_far_as_it_came() -> None:
    torch = Torch.read(
        Answer({"version": "2.15", "stage": "asking CUDA"}, "killed by SIGSEGV while asking CUDA")
    )
    assert (torch.version, torch.num_gpus, torch.gpus, torch.stage) == ("2.15", None, (), "asking CUDA")
    torch = Torch.read(Answer({"num_gpus": 1, "gpus": [{"failure": "boom"}], "architectures": ["sm_90"]}))
    assert (
        torch.gpus[0].failure == "boom" and torch.gpus[0].name == "GPU" and torch.architectures == ("sm_90",)
    )


def test_gpus_are_found_on_the_bus_without_a_driver(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("01:00.0", "0x10de", "0x030200"),
        ("01:00.1", "0x10de", "0x040300"),
        ("02:00.0", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    (tmp_path / "03:00.0").mkdir()
    assert gpus_on_bus(tmp_path) == ["01:00.0"]
    assert gpus_on_bus(tmp_path / "nowhere") == []


def test_device_nodes_tell_whether_they_may_be_opened(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert device_nodes(tmp_path) == {str(tmp_path / "nvidiactl"): True, str(tmp_path / "nvidia0"): True}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_closed_node_is_seen_as_closed(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch(mode=0o000)
    assert device_nodes(tmp_path) == {str(tmp_path / "nvidia0"): False}
