"""A network on one GPU, whatever computes it there. Runs in a worker; torch is imported inside.

Three things go on at once, each on a stream of its own: the pixels of the next batch are copied, this one is computed,
the one before is post-processed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from models.answers import Pixels
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.cuda_lanes import Lane, Lanes
from models.runtimes.runtime import RawOutput, Running

if TYPE_CHECKING:
    import torch

DEPTH = 2
"""Batches that may be under way at once."""


class Computation(Protocol):
    """A network with memory for one batch of input, (max_batch_size, 3, height, width) with values from 0 to 255."""

    @property
    def batch(self) -> torch.Tensor: ...

    def run(self, num_rows: int) -> Sequence[torch.Tensor]:
        """Outputs for the first `num_rows` of `batch`, float32 and nobody else's; goes to the current stream."""
        ...


class CudaRuntime:
    """`computation` on one GPU; `name` and `precision` are what operators read of it."""

    max_launched = DEPTH

    def __init__(
        self,
        computation: Computation,
        shape: tuple[int, int, int],
        device: CudaDevice,
        name: str,
        precision: str,
    ) -> None:
        """`shape` is one image's (height, width, 3)."""
        self.name = name
        self.precision = precision
        self.computation = computation
        self.device = device
        self._lanes = Lanes(device, DEPTH, len(computation.batch), shape)
        device.finish()  # memory was cleared on the default stream, for which the others do not wait

    def attach(self, memory: Pixels) -> None:
        """`memory`, flat uint8, holds the rows to come: lock its pages, so that they are copied from there."""
        self._lanes.attach(memory)

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Queue copies and network on the device. Raises RuntimeError if DEPTH batches are under way, ValueError for
        too many images or one of another shape."""
        import torch

        lane, num_rows = self._lanes.fill(pixels)
        try:
            with torch.inference_mode(), self.device.on(self.device.computing):
                self.computation.batch[:num_rows].copy_(lane.pixels[:num_rows].permute(0, 3, 1, 2))
                outputs = self.computation.run(num_rows)
            return RunningOnGpu(self.device, self._lanes, lane, outputs)
        except BaseException:
            self._lanes.release(lane)
            raise


class RunningOnGpu:
    """A batch on the device's streams."""

    def __init__(self, device: CudaDevice, lanes: Lanes, lane: Lane, outputs: Sequence[torch.Tensor]) -> None:
        self._device = device
        self._lanes = lanes
        self._lane = lane
        self._outputs = outputs
        self._done = device.mark(device.computing)

    def result(self) -> RawOutput:
        """Wait for it. Tensors on the device, for the default stream; once."""
        try:
            self._done.synchronize()
            self._device.hand_over(self._outputs)
        finally:
            self._lanes.release(self._lane)
        return self._outputs[0] if len(self._outputs) == 1 else (self._outputs[0], self._outputs[1])
