"""The CPU: what it can compute fast, how many cores there are for us, and what OpenVINO makes of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool.core_budget import CPU_MAX, CoreBudget, usable_cores
from server.doctor.finding import Finding, ok, warning
from server.doctor.probe import Answer

CPUINFO = Path("/proc/cpuinfo")
FEATURES: Mapping[str, str] = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
    "asimd": "Neon",
    "sve": "SVE",
    "bf16": "bf16",
    "i8mm": "int8 products",
}
"""The kernel's flags that decide how fast models run."""


@dataclass(frozen=True, slots=True)
class Processor:
    """`flags` are the kernel's, `allowed` the cores of this process's affinity, `usable` what a quota leaves."""

    name: str
    architecture: str
    flags: frozenset[str]
    num_cores: int
    allowed: Sequence[int]
    usable: CoreBudget


def read_processor(cpuinfo: Path = CPUINFO, cpu_max: Path = CPU_MAX) -> Processor:
    """This machine's."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        text = ""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    return Processor(
        fields.get("model name", "CPU"),
        platform.machine(),
        frozenset(fields.get("flags", fields.get("Features", "")).split()),
        os.cpu_count() or 1,
        sorted(os.sched_getaffinity(0)),
        usable_cores(cpu_max),
    )


def check_processor(processor: Processor) -> list[Finding]:
    """Instructions and cores."""
    return [_instructions(processor), _cores(processor)]


def _instructions(processor: Processor) -> Finding:
    there = [text for flag, text in FEATURES.items() if flag in processor.flags]
    if processor.architecture == "x86_64" and "avx2" not in processor.flags and processor.flags:
        text = f"{processor.name} has no AVX2: models run several times slower"
        return warning(
            "instructions",
            text,
            "another machine; of a virtual one the CPU type (`-cpu host`, not a generic one)",
        )
    text = f"{processor.name}: {', '.join(there) or 'no special instructions are told'}"
    if "amx_bf16" in processor.flags or "avx512_bf16" in processor.flags:
        return ok("instructions", f"{text}; bf16 is fast here")
    return ok("instructions", f"{text}; no bf16 in hardware")


def _cores(processor: Processor) -> Finding:
    usable, allowed = processor.usable.num_cores, len(processor.allowed)
    text = f"{usable} of {processor.num_cores} cores usable"
    if usable < allowed:
        text += f" (the container's CPU quota of {usable}: not pinned)"
    elif allowed < processor.num_cores:
        text += ", cut by this process's affinity"
    if usable == 1:
        text += ": one replica for each model, so its requests wait while it is replaced"
        return warning("cores", text, "give the container 2 CPUs or more (`--cpus 2`), or set replicas = 2")
    return ok("cores", text)


def check_openvino(answer: Answer) -> Finding:
    """What the faster runtime of the CPU is able to do."""
    if answer.failure:
        return warning(
            "openvino",
            f"OpenVINO cannot be used: {answer.failure}",
            "install the locked versions again: make clean install",
        )
    devices, version = answer.facts.get("devices", {}), str(answer.facts.get("version")).partition("-")[0]
    if "CPU" not in devices:
        return warning("openvino", f"OpenVINO {version} sees no CPU", "make clean install")
    able = ", ".join(devices["CPU"]["capabilities"])
    return ok("openvino", f"OpenVINO {version} on the CPU: {able}")
