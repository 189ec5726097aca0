"""Variables that are set to find a fault and forgotten: which are in force, and what each costs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from server.doctor.finding import Finding, ok, warning

_COSTS = {
    "CUDA_LAUNCH_BLOCKING": "every kernel is waited for, so copying and computing no longer overlap",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "memory is asked of the driver for every tensor, which waits for the GPU",
    "TORCH_SHOW_CPP_STACKTRACES": "every exception of torch collects a C++ stack",
}
_TOLD = {
    "TORCH_USE_CUDA_DSA": "has an effect only in a torch that was built with it; the released builds are not",
    "PYTORCH_ALLOC_CONF": "how torch's allocator takes memory of a GPU",
    "PYTORCH_CUDA_ALLOC_CONF": "how torch's allocator takes memory of a GPU",
    "NVIDIA_TF32_OVERRIDE": "0 forbids TF32 in NVIDIA's libraries: fp32 becomes more exact and slower",
    "CUDA_VISIBLE_DEVICES": "which GPUs may be used",
}
_OFF = {"", "0"}


def check_knobs(environment: Mapping[str, str]) -> list[Finding]:
    """A line for each that is set."""
    findings: list[Finding] = []
    for name, cost in _COSTS.items():
        value = environment.get(name, "")
        if value not in _OFF:
            findings.append(
                warning("knob", f"{name}={value}: {cost}", f"`unset {name}` when the fault is found")
            )
    for name, text in _TOLD.items():
        if name not in environment:
            continue
        value = environment[name]
        if value:
            findings.append(ok("knob", f"{name}={value}: {text}"))
        elif name == "CUDA_VISIBLE_DEVICES":
            findings.append(ok("knob", f"{name} is set, but to nothing: no GPU is shown to anybody"))
    return findings or [ok("knob", "no variable for finding faults is set")]
