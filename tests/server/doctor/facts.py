"""Made-up machines: facts of a GPU machine on which all is well, to be changed in one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from server.doctor.finding import Finding
from server.doctor.gpu_facts import Driver, Gpu, GpuFacts, Torch
from server.doctor.wheel import Wheel

GIB = 2**30
H200 = Gpu("NVIDIA H200", "GPU-1", (9, 0), 139 * GIB, 138 * GIB)
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
DRIVER = Driver("580.65.06", (13, 0), (H200,))
TORCH = Torch("2.15.0+cu130", 1, (H200,), ARCHITECTURES)
GOOD = GpuFacts(
    "auto", None, DRIVER, TORCH, Wheel("2.15.0+cu130", (13, 0)), ("0000:01:00.0",), {"/dev/nvidia0": True}
)
NO_GPU = GpuFacts(
    "auto",
    None,
    Driver(error="LibraryNotFound", text="NVML Shared Library Not Found"),
    Torch("2.15.0+cu130", 0),
    GOOD.wheel,
)


def with_driver(facts: GpuFacts = GOOD, **changes: Any) -> GpuFacts:
    return replace(facts, driver=replace(facts.driver, **changes))


def with_torch(facts: GpuFacts = GOOD, **changes: Any) -> GpuFacts:
    return replace(facts, torch=replace(facts.torch, **changes))


def named(findings: list[Finding], name: str) -> Finding:
    """The only finding of that name."""
    (found,) = [each for each in findings if each.name == name]
    return found


def statuses(findings: list[Finding]) -> dict[str, str]:
    return {each.name: each.status for each in findings}
