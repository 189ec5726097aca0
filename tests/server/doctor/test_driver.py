from __future__ import annotations

from dataclasses import replace

import pytest

from server.doctor.driver import START_WITH_GPUS, check_driver
from server.doctor.wheel import Wheel
from tests.server.doctor.facts import GOOD, NO_GPU, named, statuses, with_driver


def test_a_machine_without_gpu_is_fine_unless_one_was_asked_for() -> None:
    assert statuses(check_driver(NO_GPU)) == {"driver": "ok"}
    for wanted in ("cuda", "cuda:1"):
        found = named(check_driver(replace(NO_GPU, wanted=wanted)), "driver")
        assert found.status == "problem" and f"device = {wanted}" in found.text
        assert "ENGINE_DEVICE=auto" in found.remedy and "--gpus all" in found.remedy


def test_a_driver_that_matches_is_ok_and_says_both_versions() -> None:
    found = named(check_driver(GOOD), "driver")
    assert found.status == "ok"
    assert "580.65.06 runs CUDA 13.0" in found.text and "brings CUDA 13.0" in found.text


def test_a_driver_for_an_older_cuda_is_a_problem_with_the_build_to_install_instead() -> None:
    found = named(check_driver(with_driver(version="550.90.07", cuda=(12, 4))), "driver")
    assert found.status == "problem" and "too old" in found.text
    assert "update the driver to 580" in found.remedy
    assert "torch==2.15.0" in found.remedy and "whl/cu126" in found.remedy and "CPU=1" in found.remedy


def test_a_driver_older_than_every_build_is_to_be_updated() -> None:
    found = named(check_driver(with_driver(version="470.1", cuda=(11, 4))), "driver")
    assert found.status == "problem" and "whl/cu" not in found.remedy


def test_a_newer_minor_version_in_the_build_is_fine_and_a_newer_driver_too() -> None:
    newer_build = replace(GOOD, wheel=Wheel("2.15.0+cu132", (13, 2)))
    assert "within one major version" in named(check_driver(newer_build), "driver").text
    assert statuses(check_driver(newer_build)) == {"driver": "ok"}
    assert statuses(check_driver(with_driver(cuda=(14, 1)))) == {"driver": "ok"}


def test_a_build_without_cuda_on_a_gpu_machine_is_a_problem() -> None:
    found = named(check_driver(replace(GOOD, wheel=Wheel("2.15.0+cpu", None))), "driver")
    assert found.status == "problem" and "without CUDA" in found.text
    assert "whl/cu130" in found.remedy and "ENGINE_DEVICE=cpu" in found.remedy


@pytest.mark.parametrize(("error", "remedy"), [
    ("LibraryNotFound", "install NVIDIA's driver 580 or newer"), ("DriverNotLoaded", "modprobe nvidia"),
    ("NoPermission", "/dev/nvidia*"), ("LibRmVersionMismatch", "restart"), ("Late", "dmesg"), ("Crashed", "nvidia-smi"),
    ("SomethingNew", "nvidia-smi"),
])  # fmt: skip
def test_a_gpu_whose_driver_does_not_answer_is_named_with_the_remedy_for_that_error(
    error: str, remedy: str
) -> None:
    facts = replace(with_driver(error=error, text="its words", gpus=()))
    found = named(check_driver(facts), "driver")
    assert found.status == "warning" and "models run on the CPU" in found.text  # auto falls back
    assert "its words" in found.text and "0000:01:00.0" in found.text and remedy in found.remedy
    assert named(check_driver(replace(facts, wanted="cuda")), "driver").status == "problem"


def test_a_driver_without_any_gpu_is_as_no_gpu() -> None:
    assert statuses(check_driver(with_driver(gpus=()))) == {"driver": "ok"}
    assert statuses(check_driver(replace(with_driver(gpus=()), wanted="cuda"))) == {"driver": "problem"}


def test_nodes_that_may_not_be_opened_are_a_problem() -> None:
    found = named(
        check_driver(replace(GOOD, nodes={"/dev/nvidia0": False, "/dev/nvidiactl": True})), "device_nodes"
    )
    assert found.status == "problem" and "/dev/nvidia0" in found.text and "nvidiactl" not in found.text


def test_an_installation_for_gpus_without_one_is_warned_of_unless_the_cpu_was_asked_for() -> None:
    made_for = replace(NO_GPU, accelerator="cuda")

    (found,) = check_driver(made_for)

    assert (found.status, found.remedy) == ("warning", START_WITH_GPUS)
    assert "made for one (accelerator = cuda): models run on the CPU" in found.text
    assert [each.status for each in check_driver(replace(made_for, wanted="cpu"))] == ["ok"]
    assert [each.status for each in check_driver(replace(made_for, wanted="cuda"))] == ["problem"]
