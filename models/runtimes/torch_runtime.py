"""The network in PyTorch on the CPU. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.runtimes.runtime import Array, Finished, RawOutput, Running

if TYPE_CHECKING:
    import torch


class TorchRuntime:
    """The network in PyTorch, float32, on the CPU."""

    name = "torch"
    precision = "fp32"

    def __init__(self, network: torch.nn.Module, shape: tuple[int, int, int], max_batch_size: int) -> None:
        """`shape` is one image's (height, width, 3)."""
        import torch

        # Pixels lie height x width x channel in a slot: with channels_last they need no transposition, and
        # convolutions on the CPU are faster.
        self._network = network.to(memory_format=torch.channels_last)
        self._staging = torch.empty((max_batch_size, *shape), dtype=torch.uint8)
        self._staging_array = self._staging.numpy()

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Run the batch to its end."""
        import torch

        num_rows = len(pixels)
        for place, image in zip(self._staging_array[:num_rows], pixels, strict=True):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
        with torch.inference_mode():
            output = self._network(torch.div(self._staging[:num_rows].permute(0, 3, 1, 2), 255.0))
        return Finished(_raw(output))


def _raw(output: Any) -> RawOutput:
    """The first of what the network gives; a pair where that is one."""
    raw = output[0] if isinstance(output, (tuple, list)) else output
    if isinstance(raw, (tuple, list)):
        first, second = raw
        return _array(first), _array(second)
    return _array(raw)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.numpy()
    return array
