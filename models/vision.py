"""A BLIP network's eye: each distinct image is encoded once, and not at all if it was seen lately. In a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.normalisation import Normalisation
from models.vision_cache import VisionCache

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Seen:
    """One row's image: float32 of (patches, width), and whether no pass of the network was needed for it. Rows of
    the same image share one tensor object."""

    embedding: torch.Tensor
    is_cached: bool


class VisionTower:
    """The network's vision model with its normalisation and its memory."""

    def __init__(self, network: Any, normalisation: Normalisation, cache: VisionCache) -> None:
        """`network` is a `BlipVisionModel` in eval mode, where it is to run."""
        self._network = network
        self._normalisation = normalisation
        self._cache = cache

    def look(self, pixels: Sequence[Pixels], keys: Sequence[str | None]) -> list[Seen]:
        """Encode images, uint8 RGB of (height, width, 3), in one pass at most; inside `torch.inference_mode`.

        Equal keys are trusted to mean equal pixels; None is equal to nothing. Of several rows with a new image the
        first counts as not cached.
        """
        # Positions stand in for missing keys: no row shares them.
        names: list[str | int] = [index if key is None else key for index, key in enumerate(keys)]
        found: dict[str | int, torch.Tensor] = {}
        new: dict[str | int, int] = {}
        for index, (name, key) in enumerate(zip(names, keys, strict=True)):
            tensor = self._cache.get(key)
            if tensor is not None:
                found[name] = tensor
            elif name not in new:
                new[name] = index
        if new:
            encoded = self._encode([pixels[index] for index in new.values()])
            # Copies: a view of the batch would keep all of it in memory as long as one image is remembered.
            found |= {name: tensor.clone() for name, tensor in zip(new, encoded, strict=True)}
        for name in new:
            if isinstance(name, str):
                self._cache.put(name, found[name])
        return [Seen(found[name], new.get(name) != index) for index, name in enumerate(names)]

    def _encode(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """float32 of (images, patches, width), on the network's device."""
        batch = self._normalisation.apply(np.stack(pixels), self._network.device)
        embeddings: torch.Tensor = self._network(batch)[0]
        return embeddings
