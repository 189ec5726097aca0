"""Image embeddings that were computed before, the most recently used ones, within a budget of bytes. In a worker."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class VisionCache:
    """Tensors by image key, least recently used out first. `max_bytes` 0 keeps nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._tensors: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._tensors)

    def get(self, key: str | None) -> torch.Tensor | None:
        """The tensor stored under `key`, None if there is none."""
        tensor = self._tensors.get(key) if key is not None else None
        if tensor is not None and key is not None:
            self._tensors.move_to_end(key)
        return tensor

    def put(self, key: str, tensor: torch.Tensor) -> None:
        """Keep `tensor`, which must own its memory: a view would keep the whole batch alive. What is larger than
        the budget is not kept."""
        num_bytes = tensor.nbytes
        if key in self._tensors or num_bytes > self._max_bytes:
            return
        while self.num_bytes + num_bytes > self._max_bytes:
            _, oldest = self._tensors.popitem(last=False)
            self.num_bytes -= oldest.nbytes
        self._tensors[key] = tensor
        self.num_bytes += num_bytes
