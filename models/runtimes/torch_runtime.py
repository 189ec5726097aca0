"""The network in PyTorch, on the CPU or one GPU. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.runtimes.runtime import Array, Finished, RawOutput, Running

if TYPE_CHECKING:
    import torch


class TorchRuntime:
    """The network in PyTorch, float32, on the CPU or one GPU."""

    name = "torch"
    precision = "fp32"

    def __init__(
        self, network: torch.nn.Module, shape: tuple[int, int, int], max_batch_size: int, device: str
    ) -> None:
        """Move `network` to `device`. `shape` is one image's (height, width, 3)."""
        import torch

        self._device = torch.device(device)
        self._on_gpu = self._device.type == "cuda"
        if self._on_gpu:
            torch.backends.cudnn.allow_tf32 = False  # 10-bit mantissas by default; this runtime says fp32
        # Pixels lie height x width x channel in a slot: with channels_last they need no transposition, and
        # convolutions on the CPU are faster.
        self._network = network.to(self._device).to(memory_format=torch.channels_last)
        self._staging = torch.empty((max_batch_size, *shape), dtype=torch.uint8, pin_memory=self._on_gpu)
        self._staging_array = self._staging.numpy()

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Run the batch to its end (for honest timings)."""
        import torch

        num_rows = len(pixels)
        for place, image in zip(self._staging_array[:num_rows], pixels, strict=True):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
        with torch.inference_mode():
            batch = self._staging[:num_rows].to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            output = self._network(torch.div(batch, 255.0))
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        return Finished(self._raw(output))

    def _raw(self, output: Any) -> RawOutput:
        """The first of what the network gives; a pair where that is one."""
        raw = output[0] if isinstance(output, (tuple, list)) else output
        if isinstance(raw, (tuple, list)):
            first, second = raw
            return self._array(first), self._array(second)
        return self._array(raw)

    def _array(self, tensor: torch.Tensor) -> Array:
        if self._on_gpu:
            return tensor
        array: Array = tensor.numpy()
        return array
