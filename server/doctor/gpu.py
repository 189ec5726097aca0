"""Each GPU: visible, not cut into slices nobody named, supported by the build, with memory left, and able to compute.
Pure; driver.py says first whether it makes sense to look."""

from __future__ import annotations

from collections.abc import Sequence

from server.devices import NoSuchDeviceError, pick_devices
from server.doctor.driver import check_driver
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.gpu_facts import Capability, Gpu, GpuFacts, Torch
from server.doctor.wheel import CPU_BUILD

GIB = 2**30
LITTLE_MEMORY = 0.1
"""Of a GPU's memory: with less left another program has it."""
RESTART = "`sudo dmesg | grep -i xid` says what the GPU reported; restart the container or machine"


def check_gpus(facts: GpuFacts) -> list[Finding]:
    """Driver, choice of devices, every GPU."""
    if facts.wanted == "cpu":
        return [_torch_line(facts.torch), ok("device", "device = cpu: GPUs are not used, nor looked at")]
    findings = [_torch_line(facts.torch), *check_driver(facts)]
    if facts.driver.error or not facts.driver.gpus or any(each.status == "problem" for each in findings):
        return findings
    findings += _check_choice(facts)
    findings += [each for gpu in facts.driver.gpus for each in _check_slices(gpu, facts.visible)]
    if facts.torch.num_gpus is not None and any(each.name == "device" for each in findings):
        findings += _check_seen(facts)
    return findings


def _torch_line(torch: Torch) -> Finding:
    """Whether PyTorch can be used at all."""
    if torch.failure and not torch.version:
        remedy = f"install the locked versions again: make clean install; {CPU_BUILD}"
        return problem("torch", f"torch cannot be imported: {torch.failure}", remedy)
    if torch.failure:
        remedy = f"{RESTART}; until then ENGINE_DEVICE=cpu serves without it"
        return problem("torch", f"torch {torch.version}: {torch.failure}", remedy)
    sees = {0: "no GPU", 1: "1 GPU"}.get(torch.num_gpus or 0, f"{torch.num_gpus} GPUs")
    return ok("torch", f"torch {torch.version} can be imported and sees {sees}")


def _check_choice(facts: GpuFacts) -> list[Finding]:
    """Which GPUs models go to, by `device` and CUDA_VISIBLE_DEVICES."""
    num_gpus = len(facts.driver.gpus)
    try:
        devices = pick_devices(facts.wanted, facts.visible, num_gpus)
    except NoSuchDeviceError as error:
        return [problem("visible", f"{error}; the driver has {num_gpus}", _visible_remedy(facts.visible))]
    if devices == ("cpu",):
        text = f"CUDA_VISIBLE_DEVICES={facts.visible!r} hides every GPU of {num_gpus}: models run on the CPU"
        return [warning("visible", text, _visible_remedy(facts.visible))]
    return [ok("device", f"device = {facts.wanted}: models go to {', '.join(devices)}")]


def _visible_remedy(visible: str | None) -> str:
    if visible is None:
        return "ENGINE_DEVICE=auto takes what there is"
    return (
        "`unset CUDA_VISIBLE_DEVICES`, or name GPUs that exist, such as CUDA_VISIBLE_DEVICES=0 (set to nothing it "
        "means none; to use the CPU on purpose ENGINE_DEVICE=cpu)"
    )


def _check_slices(gpu: Gpu, visible: str | None) -> list[Finding]:
    """A GPU in MIG mode is used by its slices only, and CUDA shows a program the first unless they are named."""
    if not gpu.is_mig:
        return []
    if not gpu.slices:
        text = f"{gpu.name} ({gpu.uuid}) is in MIG mode without a slice: nothing can run on it"
        return [
            problem(
                "mig",
                text,
                "`sudo nvidia-smi mig -cgi 0 -C` makes one, `sudo nvidia-smi -mig 0` ends the mode",
            )
        ]
    named = {part.strip() for part in (visible or "").split(",")}
    if named & set(gpu.slices):
        return [ok("mig", f"{gpu.name} is in MIG mode; its slices are named in CUDA_VISIBLE_DEVICES")]
    text = (
        f"{gpu.name} is in MIG mode with {len(gpu.slices)} slices; without their names only the first is used"
    )
    return [warning("mig", text, f"CUDA_VISIBLE_DEVICES={','.join(gpu.slices)}")]


def _check_seen(facts: GpuFacts) -> list[Finding]:
    torch, expected = facts.torch, len(pick_devices("auto", facts.visible, len(facts.driver.gpus)))
    if not torch.num_gpus:
        why = torch.warnings[-1] if torch.warnings else "it does not say why"
        return [problem("seen", f"torch sees none of the {expected} GPUs: {why}", RESTART)]
    findings = [
        each for i, gpu in enumerate(torch.gpus) for each in _check_gpu(f"cuda:{i}", gpu, torch.architectures)
    ]
    if torch.num_gpus < expected:
        text = f"torch sees {torch.num_gpus} GPUs, the driver {expected}"
        findings.append(
            warning(
                "seen", text, "`nvidia-smi`: a GPU that is lost or in MIG mode; or check CUDA_VISIBLE_DEVICES"
            )
        )
    return findings


def _check_gpu(device: str, gpu: Gpu, architectures: Sequence[str]) -> list[Finding]:
    capability = ".".join(map(str, gpu.capability or ()))
    what = f"{device}: {gpu.name}" + (f", compute capability {capability}" if capability else "")
    if gpu.capability and architectures and not supports(architectures, gpu.capability):
        text = f"{what}, for which this build of torch has no kernels ({' '.join(architectures)})"
        remedy = "a build of PyTorch that has them (older GPUs: the oldest CUDA on its index), or ENGINE_DEVICE=cpu"
        return [problem("architecture", text, remedy)]
    if gpu.failure:
        return [problem("kernel", f"{what} does not compute: {gpu.failure}", _kernel_remedy(gpu.failure))]
    if gpu.total is None or gpu.free is None:
        return [ok("kernel", f"{what}, computes")]
    memory = f"{gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free"
    if gpu.free < LITTLE_MEMORY * gpu.total:
        remedy = "`nvidia-smi` shows which process holds it; end it, or CUDA_VISIBLE_DEVICES with another GPU"
        return [warning("gpu_memory", f"{what}, computes, but only {memory}", remedy)]
    return [ok("kernel", f"{what}, {memory}, computes")]


def _kernel_remedy(failure: str) -> str:
    text = failure.lower()
    if "out of memory" in text:
        return "`nvidia-smi` shows which process holds the memory; end it, or take another GPU"
    if "busy or unavailable" in text:
        return "another process has it alone: `sudo nvidia-smi --compute-mode=0`, or end that process"
    return RESTART


def supports(architectures: Sequence[str], capability: Capability) -> bool:
    """Whether a build with kernels for `architectures` (``sm_90``, ``compute_120``) runs on a GPU.

    Kernels run on GPUs of the same major version that are not older; the text form (``compute_``) is compiled for
    any newer one. A letter behind the number binds kernels to that very version (a) or to its family (f).
    """
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        made_for = (int(digits[:-1]), int(digits[-1]))
        if number.endswith("a"):
            is_fit = capability == made_for
        elif kind == "compute" and digits == number:
            is_fit = capability >= made_for
        else:
            is_fit = capability[0] == made_for[0] and capability[1] >= made_for[1]
        if is_fit:
            return True
    return False
