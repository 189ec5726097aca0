"""A BLIP network's eye: each distinct image is encoded once, and not at all if it was seen lately. In a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.answers import Pixels
from models.runtimes.blip_runtime import BlipRuntime
from models.runtimes.runtime import Array
from models.vision_cache import VisionCache


@dataclass(frozen=True, slots=True)
class Seen:
    """One row's image: float32 of (patches, width), and whether no pass of the network was needed for it. Rows of
    the same image share one object."""

    embedding: Array
    is_cached: bool


class Eye:
    """A runtime's eye with its memory."""

    def __init__(self, runtime: BlipRuntime, cache: VisionCache) -> None:
        self._runtime = runtime
        self._cache = cache

    def look(self, pixels: Sequence[Pixels], keys: Sequence[str | None]) -> list[Seen]:
        """Encode images, uint8 RGB of (height, width, 3), in one pass at most.

        Equal keys are trusted to mean equal pixels; None is equal to nothing. Of several rows with a new image the
        first counts as not cached.
        """
        # Positions stand in for missing keys: no row shares them.
        names: list[str | int] = [index if key is None else key for index, key in enumerate(keys)]
        found: dict[str | int, Array] = {}
        new: dict[str | int, int] = {}
        for index, (name, key) in enumerate(zip(names, keys, strict=True)):
            known = self._cache.get(key)
            if known is not None:
                found[name] = known
            elif name not in new:
                new[name] = index
        if new:
            encoded = self._runtime.see([pixels[index] for index in new.values()])
            found |= dict(zip(new, encoded, strict=True))
        for name in new:
            if isinstance(name, str):
                self._cache.put(name, found[name])
        return [Seen(found[name], new.get(name) != index) for index, name in enumerate(names)]
