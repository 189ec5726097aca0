"""Whether there is a GPU, whether its driver answers, and whether it is new enough for the installed PyTorch. Pure.

CUDA's rule: a driver runs every program made for its own CUDA version or an older one, and within one major version
newer ones as well, but for code that is compiled at run time.
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

from __future__ import annotations

from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.gpu_facts import GpuFacts
from server.doctor.wheel import CPU_BUILD, INDEX, Wheel

LEAST_DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest driver that runs each major version of CUDA."""
INDEX_NAMES = {12: "cu126", 13: "cu130"}
"""The folder of PyTorch's index with its oldest long-lived build for each major version of CUDA."""
START_WITH_GPUS = (
    "in a container: start it with `--gpus all` or docker-compose.gpu.yml, with the NVIDIA container toolkit on "
    "the host"
)

_REMEDIES = {
    "LibraryNotFound": "install NVIDIA's driver{least}; " + START_WITH_GPUS,
    "DriverNotLoaded": "`sudo modprobe nvidia`; if that fails `sudo dmesg | grep -i nvrm` says why; "
    + START_WITH_GPUS,
    "NoPermission": "`ls -l /dev/nvidia*`: run as a user who may read and write them, or add the user to their group",
    "LibRmVersionMismatch": "the driver was replaced while its kernel module runs: restart the machine, or "
    "`sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && sudo modprobe nvidia`; then restart the container",
    "Late": "`sudo dmesg | grep -iE 'xid|nvrm'`, then `sudo nvidia-smi --gpu-reset` or restart the machine",
    "GpuIsLost": "`sudo dmesg | grep -i xid`; restart the machine, and if it comes back have the GPU looked at",
}
_OTHERWISE = "`nvidia-smi` and `sudo dmesg | grep -iE 'xid|nvrm'` say more"


def check_driver(facts: GpuFacts) -> list[Finding]:
    """Driver and build; the GPUs themselves are looked at only if this has no problem."""
    driver, traces = facts.driver, [*facts.on_bus, *facts.nodes]
    if driver.error == "LibraryNotFound" and not traces:
        return [_no_gpu(facts, "no NVIDIA GPU and no driver")]
    if driver.error:
        text = f"NVIDIA's driver does not answer: {driver.text or driver.error}"
        if traces:
            text += f" (there is {', '.join(traces[:4])})"
        least = f" {least_driver(facts.wheel)} or newer" if facts.wheel and facts.wheel.cuda else ""
        remedy = _REMEDIES.get(driver.error, _OTHERWISE).format(least=least)
        if facts.is_required:
            return [problem("driver", f"{text}; device = {facts.wanted}", remedy)]
        return [warning("driver", f"{text}; models run on the CPU", remedy)]
    if not driver.gpus:
        return [_no_gpu(facts, f"driver {driver.version} is here, but no GPU")]
    return [*_closed_nodes(facts), _match(facts)]


def least_driver(wheel: Wheel) -> str:
    """The oldest driver for a build, as its first number; empty where it needs none or it is not known."""
    return str(LEAST_DRIVERS.get(wheel.cuda[0], "")) if wheel.cuda else ""


def _no_gpu(facts: GpuFacts, text: str) -> Finding:
    if facts.is_required:
        remedy = f"ENGINE_DEVICE=auto (or cpu); {START_WITH_GPUS}"
        return problem("driver", f"{text}, and device = {facts.wanted} asks for one", remedy)
    if facts.accelerator == "cuda" and facts.wanted == "auto":
        text += (
            ", although this installation is made for one (accelerator = cuda): models run on the CPU, slowly"
        )
        return warning("driver", text, START_WITH_GPUS)
    return ok("driver", f"{text}: models run on the CPU")


def _closed_nodes(facts: GpuFacts) -> list[Finding]:
    closed = [path for path, is_open in facts.nodes.items() if not is_open]
    if not closed:
        return []
    text = f"this user may not open {', '.join(closed)}"
    return [problem("device_nodes", text, _REMEDIES["NoPermission"])]


def _match(facts: GpuFacts) -> Finding:
    """Driver against build."""
    driver, wheel = facts.driver, facts.wheel
    runs = f"driver {driver.version} runs CUDA {_dotted(driver.cuda)}"
    if wheel is None or driver.cuda is None:
        return ok("driver", runs)
    if wheel.cuda is None:
        text = f"{runs}, but torch {wheel.version} is a build without CUDA: its workers cannot use the GPU"
        return problem("driver", text, f"{_other_build(wheel, driver.cuda)}; or ENGINE_DEVICE=cpu")
    needs = f"torch {wheel.version} brings CUDA {_dotted(wheel.cuda)}"
    if wheel.cuda[0] > driver.cuda[0]:
        remedy = (
            f"update the driver to {least_driver(wheel) or 'one for CUDA ' + str(wheel.cuda[0])} or newer; else "
            f"{_other_build(wheel, driver.cuda)}; else {CPU_BUILD}"
        )
        return problem("driver", f"{runs}, too old: {needs}", remedy)
    if wheel.cuda > driver.cuda:
        return ok(
            "driver", f"{runs}, {needs}: fine within one major version, but for code compiled at run time"
        )
    return ok("driver", f"{runs}, {needs}")


def _other_build(wheel: Wheel, cuda: tuple[int, int]) -> str:
    """The command that installs the build for a driver's CUDA."""
    major = min(cuda[0], max(INDEX_NAMES))
    if major not in INDEX_NAMES:
        return "a newer driver, for there is no build of PyTorch for this one"
    index = INDEX + INDEX_NAMES[major]
    command = f"pip install --force-reinstall torch=={wheel.release} torchvision --index-url {index}"
    return f"the build for CUDA {major}, if that index has it: `{command}`"


def _dotted(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version)) if version else "of unknown version"
