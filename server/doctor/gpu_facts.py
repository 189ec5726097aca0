"""What is known of GPUs, driver and PyTorch: plain facts, so that every case can be made up in a test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.doctor.probe import Answer
from server.doctor.wheel import Wheel

DEV = Path("/dev")
PCI = Path("/sys/bus/pci/devices")
NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver or as PyTorch sees it. Sizes in bytes, None where nobody tells."""

    name: str = "GPU"
    uuid: str = ""
    capability: Capability | None = None
    total: int | None = None
    free: int | None = None
    is_mig: bool = False
    slices: tuple[str, ...] = ()
    failure: str = ""
    """Why it did not compute; empty if it did, or if it was not asked."""

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Gpu:
        """From what a probe said of it."""
        capability = said.get("capability")
        return cls(
            name=said.get("name") or "GPU",
            uuid=said.get("uuid", ""),
            capability=(int(capability[0]), int(capability[1])) if capability else None,
            total=said.get("total"),
            free=said.get("free"),
            is_mig=bool(said.get("is_mig")),
            slices=tuple(said.get("slices", ())),
            failure=said.get("failure", ""),
        )


@dataclass(frozen=True, slots=True)
class Driver:
    """What NVIDIA's management library answered. `error` is its name for what is wrong (``LibraryNotFound``,
    ``DriverNotLoaded``, ``NoPermission``, ``LibRmVersionMismatch`` ...), ``Late`` or ``Crashed``; `text` its words."""

    version: str = ""
    cuda: tuple[int, int] | None = None
    gpus: Sequence[Gpu] = ()
    error: str = ""
    text: str = ""

    @classmethod
    def read(cls, answer: Answer) -> Driver:
        """From the probe's answer."""
        said = answer.facts
        if answer.failure:
            return cls(error="Late" if answer.is_late else "Crashed", text=answer.failure)
        if "error" in said:
            return cls(error=said["error"], text=said["text"])
        number = int(said["cuda"])
        gpus = tuple(Gpu.read(each) for each in said["gpus"])
        return cls(said["driver"], (number // 1000, number % 1000 // 10), gpus)


@dataclass(frozen=True, slots=True)
class Torch:
    """What PyTorch sees in a process of its own. `failure` is empty if it came to its end."""

    version: str = ""
    num_gpus: int | None = None
    """None: it did not come so far."""
    gpus: Sequence[Gpu] = ()
    architectures: Sequence[str] = ()
    warnings: Sequence[str] = ()
    failure: str = ""
    stage: str = ""

    @classmethod
    def read(cls, answer: Answer) -> Torch:
        """From the probe's answer."""
        said = answer.facts
        return cls(
            version=said.get("version", ""),
            num_gpus=said.get("num_gpus"),
            gpus=tuple(Gpu.read(each) for each in said.get("gpus", ())),
            architectures=tuple(said.get("architectures", ())),
            warnings=tuple(said.get("warnings", ())),
            failure=answer.failure,
            stage=answer.stage,
        )


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """Everything that the checks of GPUs decide by."""

    wanted: str
    """The setting `device`."""
    visible: str | None
    """CUDA_VISIBLE_DEVICES; None: not set."""
    driver: Driver
    torch: Torch
    wheel: Wheel | None
    on_bus: Sequence[str] = ()
    """PCI addresses of NVIDIA's GPUs."""
    nodes: Mapping[str, bool] = field(default_factory=dict)
    """``/dev/nvidia*``: whether this user may open it for reading and writing."""
    accelerator: str | None = None
    """The setting of that name."""

    @property
    def is_required(self) -> bool:
        """The operator asked for a GPU: without one the server does not start."""
        return self.wanted.startswith("cuda")


def gpus_on_bus(pci: Path = PCI) -> list[str]:
    """PCI addresses of NVIDIA's GPUs, driver or not; empty where the kernel does not tell."""
    found: list[str] = []
    for device in sorted(pci.glob("*")):
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == NVIDIA and kind.startswith(DISPLAY_CLASS):
            found.append(device.name)
    return found


def device_nodes(dev: Path = DEV) -> dict[str, bool]:
    """The driver's nodes that CUDA opens, and whether this user may."""
    names = ["nvidiactl", "nvidia-uvm", *(path.name for path in sorted(dev.glob("nvidia[0-9]*")))]
    paths = [dev / name for name in names if (dev / name).exists()]
    return {str(path): os.access(path, os.R_OK | os.W_OK) for path in paths}
