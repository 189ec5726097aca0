"""Stands in for `CudaDevice` where there is no GPU: the same calls, tensors on the CPU.

Copies and the network run when they are asked for, but nothing counts as done before it is waited for, and a lane whose
batch is not done must not be written again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from models.answers import Pixels


class CpuStream:
    def __init__(self, name: str) -> None:
        self.name = name
        self.num_waits = 0

    def wait_event(self, event: CpuEvent) -> None:
        self.num_waits += 1


class CpuEvent:
    def __init__(self, device: CpuDevice) -> None:
        self._device = device
        self.is_waited_for = False

    def synchronize(self) -> None:
        if self._device.failure is not None:
            raise self._device.failure
        self.is_waited_for = True


class CpuDevice:
    """`refuses`: "register" or "capture", which then fail; `freezes`: what is recorded repeats its first answer."""

    name = "none"

    def __init__(self, *refuses: str, freezes: bool = False) -> None:
        self.torch_device = torch.device("cpu")
        self.copying = CpuStream("copying")
        self.computing = CpuStream("computing")
        self.failure: Exception | None = None
        self.num_repeated = 0
        self.staged: list[torch.Tensor] = []
        self.handed_over: list[torch.Tensor] = []
        self.current = "default"
        self._refuses = refuses
        self._freezes = freezes

    @contextlib.contextmanager
    def on(self, stream: CpuStream) -> Iterator[None]:
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def mark(self, stream: CpuStream) -> CpuEvent:
        return CpuEvent(self)

    def finish(self) -> None:
        pass

    def staging(self, shape: Sequence[int]) -> torch.Tensor:
        self.staged.append(torch.empty(*shape, dtype=torch.uint8))
        return self.staged[-1]

    def capture(self, step: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        if "capture" in self._refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        given = step()

        def repeat() -> None:
            assert self.current == "computing"
            self.num_repeated += 1
            if not self._freezes:
                for place, found in zip(given, step(), strict=True):
                    place.copy_(found)

        return repeat, given

    def hand_over(self, tensors: Sequence[torch.Tensor]) -> None:
        self.handed_over += tensors

    def register(self, memory: Pixels) -> bool:
        return "register" not in self._refuses
