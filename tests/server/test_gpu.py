"""What is asked of NVIDIA's library, with a made-up one, and with the real one where there is a GPU."""

from __future__ import annotations

import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from server.devices import pick_devices
from server.gpu import Gpus, GpuSample
from server.machine_metrics import gpu_families


class NVMLError(Exception):
    """As pynvml has it."""


class Library(ModuleType):
    """Two GPUs; `fails` names the calls that raise."""

    NVMLError = NVMLError

    def __init__(self, *fails: str) -> None:
        super().__init__("pynvml")
        self.fails = set(fails)
        self.calls: list[str] = []
        self.answers = threading.Event()
        self.answers.set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        assert self.answers.wait(20)
        if name in self.fails:
            raise NVMLError(name)

    def nvmlInit(self) -> None:
        self._call("init")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        self._call("handle")
        if index > 1:
            raise NVMLError("no such GPU")
        return index

    def nvmlDeviceGetHandleByUUID(self, name: bytes) -> Any:
        self._call("handle")
        assert name == b"GPU-1234"
        return 1

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> Any:
        self._call("memory")
        return SimpleNamespace(total=1000 + gpu, used=10 + gpu)

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> Any:
        self._call("utilisation")
        return SimpleNamespace(gpu=50)


async def test_each_gpu_that_models_are_placed_on_is_asked_by_its_index_or_uuid() -> None:
    samples = await Gpus(("cuda:0", "cuda:GPU-1234"), Library()).sample()
    assert samples == [
        GpuSample("cuda:0", True, 1000, 10, 0.5),
        GpuSample("cuda:GPU-1234", True, 1001, 11, 0.5),
    ]


async def test_without_gpus_the_library_is_not_touched() -> None:
    library = Library()
    assert await Gpus(("cpu",), library).sample() == []
    assert library.calls == []
    assert all(not family.samples for family in gpu_families([]))


@pytest.mark.parametrize("fails", ["init", "handle", "memory"])
async def test_a_gpu_that_cannot_be_asked_is_down_and_has_no_other_figures(fails: str) -> None:
    library = Library(fails)
    gpus = Gpus(("cuda:0",), library)
    assert await gpus.sample() == [GpuSample("cuda:0", is_up=False)]
    library.fails.clear()
    assert (await gpus.sample())[0].is_up, "it is asked again the next time"


async def test_one_lost_gpu_does_not_hide_the_others() -> None:
    samples = await Gpus(("cuda:7", "cuda:1"), Library()).sample()
    told = {
        family.name: {s.labels["device"]: s.value for s in family.samples} for family in gpu_families(samples)
    }
    assert told["engine_gpu_up"] == {"cuda:7": 0, "cuda:1": 1}
    assert told["engine_gpu_memory_used_bytes"] == {"cuda:1": 11}


async def test_a_gpu_that_does_not_say_how_busy_it_is_has_its_memory_told() -> None:
    samples = await Gpus(("cuda:0",), Library("utilisation")).sample()
    assert samples == [GpuSample("cuda:0", True, 1000, 10, None)]


async def test_a_driver_that_hangs_is_told_as_down_in_time_and_is_asked_by_one_thread_only() -> None:
    library = Library()
    library.answers.clear()
    gpus = Gpus(("cuda:0",), library)
    started = time.monotonic()
    for _ in range(3):
        assert await gpus.sample(timeout=0.05) == [GpuSample("cuda:0", is_up=False)]
    assert time.monotonic() - started < 5
    assert library.calls == ["init"]
    library.answers.set()
    assert (await gpus.sample(timeout=10))[0].is_up


@pytest.mark.gpu
async def test_a_real_gpu_says_how_much_memory_it_has() -> None:
    samples = await Gpus(pick_devices("cuda", None)).sample(10)
    for sample in samples:
        assert sample.is_up and sample.memory is not None and sample.memory_used is not None
        assert sample.memory > 2**30
        assert 0 <= sample.memory_used <= sample.memory
        assert sample.utilisation is None or 0 <= sample.utilisation <= 1
