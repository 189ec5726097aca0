"""What executes a network: pixels in, the head's raw output out. Runs in a worker; torch is imported inside.

Post-processing is not here, so that it is the same code whatever executes the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from models.answers import Pixels

if TYPE_CHECKING:
    import torch


RawOutput: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"
"""What a head gives: for each row what is to be post-processed, and in segmentation the prototypes of its masks."""


class Runtime(Protocol):
    """A network ready to run. `name` and `precision` are what operators read."""

    name: str
    precision: str

    def forward(self, pixels: Sequence[Pixels]) -> RawOutput:
        """Run 1 to `max_batch_size` images, each uint8 RGB of (height, width, 3).

        Returns float32, batch first, on the runtime's device, computed to the end (for honest timings).
        """
        ...


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

    def forward(self, pixels: Sequence[Pixels]) -> RawOutput:
        import torch

        num_rows = len(pixels)
        for place, image in zip(self._staging_array[:num_rows], pixels, strict=True):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
        with torch.inference_mode():
            batch = self._staging[:num_rows].to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            output = self._network(torch.div(batch, 255.0))
            raw: RawOutput = output[0] if isinstance(output, (tuple, list)) else output
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        return raw
