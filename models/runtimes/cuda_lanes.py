"""How pixels come to a GPU: one lane for each batch that may be under way. Runs in a worker; torch inside.

slot (page-locked) ──copying stream──▶ lane.pixels (uint8, on the device) ──computing stream──▶ network
any other memory ──CPU──▶ lane.staging ──┘
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from models.answers import Pixels
from models.runtimes.cuda_device import CudaDevice

if TYPE_CHECKING:
    import torch


class Lane:
    """Memory for one batch. Free again when its batch is complete."""

    def __init__(self, device: CudaDevice, max_batch_size: int, shape: tuple[int, int, int]) -> None:
        import torch

        size = (max_batch_size, *shape)
        self.pixels = torch.zeros(size, dtype=torch.uint8, device=device.torch_device)
        """(max_batch_size, height, width, 3) on the device; rows beyond the batch are an earlier batch's."""
        self.staging = device.staging(size)
        self.staging_array = self.staging.numpy()


class Lanes:
    """All lanes of a runtime, and the slots' memory where the GPU can read it."""

    def __init__(
        self, device: CudaDevice, num_lanes: int, max_batch_size: int, shape: tuple[int, int, int]
    ) -> None:
        self._device = device
        self._max_batch_size = max_batch_size
        self._shape = shape
        self._free = [Lane(device, max_batch_size, shape) for _ in range(num_lanes)]
        self._memory: Pixels | None = None
        self._slots: torch.Tensor | None = None

    def attach(self, memory: Pixels) -> None:
        """`memory`, flat uint8 and writable, holds the rows to come. Locked for as long as the process lives."""
        import torch

        if self._device.register(memory):
            self._memory = memory
            self._slots = torch.from_numpy(memory)

    def fill(self, images: Sequence[Pixels]) -> tuple[Lane, int]:
        """Take a lane and have `images` copied to it; returns it with the number of rows. The computing stream is made
        to wait for the copies.

        Raises ValueError for too many images or one of another shape, RuntimeError if no lane is free.
        """
        for image in images:
            if image.shape != self._shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {self._shape}")
        if len(images) > self._max_batch_size:
            raise ValueError(f"{len(images)} images are more than {self._max_batch_size}")
        if not self._free:
            raise RuntimeError("more batches begun than there is memory for")
        lane = self._free.pop()
        try:
            self._copy(lane, images)
        except BaseException:
            self.release(lane)
            raise
        return lane, len(images)

    def _copy(self, lane: Lane, images: Sequence[Pixels]) -> None:
        with self._device.on(self._device.copying):
            for row, image in enumerate(images):
                lane.pixels[row].copy_(self._source(lane, row, image), non_blocking=True)
        self._device.computing.wait_event(self._device.mark(self._device.copying))

    def _source(self, lane: Lane, row: int, image: Pixels) -> torch.Tensor:
        """Page-locked memory with the image in it: its slot itself, or a copy."""
        if self._memory is not None and self._slots is not None and image.flags.c_contiguous:
            start = image.ctypes.data - self._memory.ctypes.data
            if 0 <= start <= self._memory.nbytes - image.nbytes:
                return self._slots[start : start + image.nbytes].view(self._shape)
        np.copyto(lane.staging_array[row], image)
        return lane.staging[row]

    def release(self, lane: Lane) -> None:
        """The device is through with it."""
        self._free.append(lane)
