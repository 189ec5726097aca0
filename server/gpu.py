"""What NVIDIA's management library says of the GPUs that models are placed on. Front process, never torch.

A GPU that has fallen off its bus can keep a call of the driver for ever: it is asked in a thread that nobody waits
for at the end, and while one asks no other is started.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU. Bytes, and the share of the last moment in which a kernel ran (0 to 1); None: it does not say."""

    device: str
    is_up: bool
    memory: int | None = None
    memory_used: int | None = None
    utilisation: float | None = None


class Gpus:
    """Asks for `devices` (``cuda:<index or UUID>``); others are not GPUs."""

    def __init__(self, devices: Sequence[str], library: ModuleType | None = None) -> None:
        """`library` replaces pynvml, for tests."""
        self._devices = [device for device in devices if device.startswith("cuda:")]
        self._library = library
        self._is_begun = False
        self._asking: asyncio.Future[list[GpuSample]] | None = None

    async def sample(self, timeout: float = 1.0) -> list[GpuSample]:
        """One for each device; down where the driver fails or says nothing within `timeout` seconds."""
        if not self._devices:
            return []
        if self._asking is None or self._asking.done():
            self._asking = self._ask_in_thread()
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), timeout)
        except TimeoutError:
            return [GpuSample(device, is_up=False) for device in self._devices]

    def _ask_in_thread(self) -> asyncio.Future[list[GpuSample]]:
        loop = asyncio.get_running_loop()
        asking: asyncio.Future[list[GpuSample]] = loop.create_future()

        def settle(samples: list[GpuSample]) -> None:
            if not asking.done():
                asking.set_result(samples)

        def ask() -> None:
            samples = self.ask()
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, samples)

        threading.Thread(target=ask, name="gpus", daemon=True).start()
        return asking

    def ask(self) -> list[GpuSample]:
        """Ask the driver, however long it takes."""
        return [self._ask_one(device) for device in self._devices]

    def _ask_one(self, device: str) -> GpuSample:
        if self._library is None:
            import pynvml  # type: ignore[import-untyped]

            self._library = pynvml
        nvml: Any = self._library
        try:
            if not self._is_begun:
                nvml.nvmlInit()
                self._is_begun = True
            name = device.removeprefix("cuda:")
            gpu = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else _by_id(nvml, name)
            memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
        except nvml.NVMLError as error:
            log.debug("%s cannot be asked: %s", device, error)
            return GpuSample(device, is_up=False)
        try:
            utilisation = float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu) / 100.0
        except nvml.NVMLError:  # a part of a GPU (MIG) does not say
            utilisation = None
        return GpuSample(device, True, int(memory.total), int(memory.used), utilisation)


def _by_id(nvml: Any, name: str) -> Any:
    return nvml.nvmlDeviceGetHandleByUUID(name.encode())
