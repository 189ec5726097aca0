"""Image embeddings that were computed before, the most recently used ones, within a budget of bytes. In a worker."""

from __future__ import annotations

from collections import OrderedDict

from models.runtimes.runtime import Array


class VisionCache:
    """Arrays by image key, least recently used out first. `max_bytes` 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._arrays: OrderedDict[str, Array] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, key: str | None) -> Array | None:
        """The array stored under `key`, None if there is none."""
        array = self._arrays.get(key) if key is not None else None
        if array is not None and key is not None:
            self._arrays.move_to_end(key)
        return array

    def put(self, key: str, array: Array) -> None:
        """Keep `array`, which must own its memory: a view would keep the whole batch alive. What is larger than
        the budget is not kept."""
        num_bytes = array.nbytes
        if key in self._arrays or num_bytes > self._max_bytes:
            return
        while self.num_bytes + num_bytes > self._max_bytes:
            _, oldest = self._arrays.popitem(last=False)
            self.num_bytes -= oldest.nbytes
        self._arrays[key] = array
        self.num_bytes += num_bytes
