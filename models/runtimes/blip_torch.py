"""BLIP in PyTorch, on the CPU or one GPU. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.blip_checkpoint import BlipCheckpoint
from models.runtimes.blip_functions import reader, seer, stepper
from models.runtimes.blip_runtime import HIDDEN, Floats, LookedAt, Numbers, Past
from models.runtimes.runtime import Array

if TYPE_CHECKING:
    import torch


class TorchBlip:
    """The networks in PyTorch, float32. What is between the calls are tensors on its device."""

    name = "torch"
    precision = "fp32"

    def __init__(self, checkpoint: BlipCheckpoint, device: str) -> None:
        """Moves the checkpoint's network to `device`."""
        import torch

        self._device = torch.device(device)
        network = checkpoint.network.requires_grad_(False).to(self._device)
        traits = checkpoint.traits
        self._see = seer(network, checkpoint.normalisation, self._device)
        self._read = reader(network) if traits.task == "vqa" else None
        self._next = stepper(network, traits.task)
        self._past_shape = (traits.layers, 0, traits.heads, 0, traits.head_width)

    def see(self, pixels: Sequence[Pixels]) -> list[Array]:
        """As the protocol says; on a GPU the images stay there."""
        import torch

        with torch.inference_mode():
            seen = self._see(self._tensor(np.stack(pixels)))
            # Copies: a view of the batch would keep all of it in memory as long as one image is remembered.
            return [each.clone() for each in seen]

    def look_at(self, images: Sequence[Array]) -> LookedAt:
        import torch

        tensors: Any = list(images)
        return (tensors[0][None] if len(tensors) == 1 else torch.stack(tensors),)

    def read(self, ids: Numbers, mask: Floats, images: Sequence[Array]) -> LookedAt:
        import torch

        assert self._read is not None, "a captioner reads no questions"
        with torch.inference_mode():
            stacked: Any = self.look_at(images)[0]
            keys, values = self._read(self._tensor(ids), self._tensor(mask), stacked)
        return keys, values, self._tensor((1 - mask)[:, None, None] * np.float32(HIDDEN))

    def step(
        self, ids: Numbers, positions: Numbers, bias: Floats, past: Past | None, looked_at: LookedAt
    ) -> tuple[Floats, Past]:
        import torch

        layers, _, heads, _, width = self._past_shape
        with torch.inference_mode():
            none = torch.empty((layers, len(ids), heads, 0, width), device=self._device)
            given = (self._tensor(each) for each in (ids, positions, bias))
            scores, keys, values = self._next(*given, *(past or (none, none)), *looked_at)
            return scores.cpu().numpy(), (keys, values)

    def reordered(self, past: Past, rows: Numbers) -> Past:
        where = self._tensor(rows)
        keys, values = (each[:, where] for each in past)
        return keys, values

    def _tensor(self, array: Any) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self._device)
