from __future__ import annotations

from dataclasses import replace

import pytest

from server.doctor.gpu import check_gpus, supports
from tests.server.doctor.facts import (
    ARCHITECTURES,
    GIB,
    GOOD,
    H200,
    NO_GPU,
    named,
    statuses,
    with_driver,
    with_torch,
)


def test_a_gpu_that_computes_is_ok_with_its_name_and_memory() -> None:
    findings = check_gpus(GOOD)
    assert set(statuses(findings).values()) == {"ok"}
    text = named(findings, "kernel").text
    assert "cuda:0: NVIDIA H200" in text and "138.0 of 139.0 GiB free" in text and "9.0" in text
    assert "cuda:0" in named(findings, "device").text


def test_without_a_gpu_only_torch_and_the_driver_are_spoken_of() -> None:
    assert statuses(check_gpus(NO_GPU)) == {"torch": "ok", "driver": "ok"}


def test_nothing_of_a_gpu_matters_when_the_cpu_was_chosen() -> None:
    broken = with_torch(
        with_driver(replace(GOOD, wanted="cpu"), error="Late", text="hangs"), num_gpus=0, gpus=()
    )
    assert statuses(check_gpus(broken)) == {"torch": "ok", "device": "ok"}


@pytest.mark.parametrize(("failure", "part"), [
    ("RuntimeError: CUDA error: an illegal memory access", "dmesg"),
    ("OutOfMemoryError: CUDA out of memory", "nvidia-smi"),
    ("RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable", "--compute-mode=0"),
    ("a sum came back wrong", "restart"),
])  # fmt: skip
def test_a_gpu_that_does_not_compute_is_a_problem(failure: str, part: str) -> None:
    found = named(check_gpus(with_torch(gpus=(replace(H200, failure=failure),))), "kernel")
    assert found.status == "problem" and failure in found.text and part in found.remedy


def test_torch_that_cannot_be_imported_or_hangs_is_a_problem_whatever_the_gpu() -> None:
    found = named(check_gpus(with_torch(NO_GPU, version="", failure="ImportError: libcudart.so.13")), "torch")
    assert found.status == "problem" and "libcudart" in found.text and "make clean install" in found.remedy
    late = with_torch(failure="no answer within 90 s while computing on cuda:0", num_gpus=1, gpus=())
    found = named(check_gpus(late), "torch")
    assert found.status == "problem" and "computing on cuda:0" in found.text


def test_a_gpu_that_torch_does_not_see_is_a_problem_with_torchs_own_words() -> None:
    found = named(
        check_gpus(with_torch(num_gpus=0, gpus=(), warnings=("CUDA initialization: unknown error",))), "seen"
    )
    assert found.status == "problem" and "unknown error" in found.text
    two = with_driver(gpus=(H200, replace(H200, uuid="GPU-2")))
    assert named(check_gpus(two), "seen").status == "warning"  # torch sees one of them


def test_hidden_gpus_are_a_warning_and_a_problem_if_one_was_asked_for() -> None:
    for visible in ("", "-1", "7"):
        hidden = with_torch(replace(GOOD, visible=visible), num_gpus=0, gpus=())
        found = named(check_gpus(hidden), "visible")
        assert found.status == "warning" and "unset CUDA_VISIBLE_DEVICES" in found.remedy
        assert named(check_gpus(replace(hidden, wanted="cuda")), "visible").status == "problem"
    missing = named(check_gpus(replace(GOOD, wanted="cuda:3")), "visible")
    assert missing.status == "problem" and "cuda:3" in missing.text


def test_a_gpu_that_the_build_has_no_kernels_for_is_a_problem() -> None:
    found = named(
        check_gpus(with_torch(gpus=(replace(H200, name="Tesla P100", capability=(6, 0)),))), "architecture"
    )
    assert found.status == "problem" and "Tesla P100" in found.text and "sm_75" in found.text


def test_little_free_memory_is_a_warning() -> None:
    found = named(check_gpus(with_torch(gpus=(replace(H200, free=2 * GIB),))), "gpu_memory")
    assert found.status == "warning" and "2.0 of 139.0 GiB" in found.text and "nvidia-smi" in found.remedy


def test_mig_without_slices_is_a_problem_and_unnamed_slices_a_warning() -> None:
    bare = replace(H200, is_mig=True)
    assert named(check_gpus(with_driver(gpus=(bare,))), "mig").status == "problem"
    sliced = with_driver(gpus=(replace(bare, slices=("MIG-a", "MIG-b")),))
    found = named(check_gpus(sliced), "mig")
    assert found.status == "warning" and found.remedy == "CUDA_VISIBLE_DEVICES=MIG-a,MIG-b"
    assert named(check_gpus(replace(sliced, visible="MIG-b")), "mig").status == "ok"


@pytest.mark.parametrize(("architectures", "capability", "expected"), [
    (ARCHITECTURES, (9, 0), True), (ARCHITECTURES, (8, 9), True), (ARCHITECTURES, (7, 0), False),
    (ARCHITECTURES, (12, 1), True), (ARCHITECTURES, (13, 0), True), (("sm_86",), (8, 0), False),
    (("sm_90a",), (9, 0), True), (("sm_90a",), (9, 1), False), (("sm_100f",), (10, 3), True), (("sm_100f",), (11, 0), False),
    (("compute_90a",), (10, 0), False), (("nonsense",), (9, 0), False),
])  # fmt: skip
def test_kernels_fit_their_major_version_and_texts_all_newer_ones(
    architectures: tuple[str, ...], capability: tuple[int, int], expected: bool
) -> None:
    assert supports(architectures, capability) is expected
