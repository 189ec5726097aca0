"""How long a batch of a shape may take, learnt from those before it. Pure, front process."""

from __future__ import annotations

from collections import OrderedDict

from pool.limits import Limits

Shape = tuple[str, int]
"""Batch key and rows: what decides how long a batch takes."""

_SLOWDOWN = 5.0
_FORGETTING = 0.05
MAX_SHAPES = 1024


class Pace:
    """The slowest batch of each shape lately, forgotten slowly; apart, the slowest first one of a worker.

    The first of a shape in a worker may have to compile or to choose kernels, also when other workers had it before.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slowest: OrderedDict[tuple[Shape, bool], float] = OrderedDict()

    def observe(self, shape: Shape, seconds: float, *, is_first: bool) -> None:
        """A batch of `shape` was done after `seconds`. `is_first`: its worker had done none of this shape."""
        key = shape, is_first
        before = self._slowest.get(key, 0.0)
        self._slowest[key] = max(seconds, before + (seconds - before) * _FORGETTING)
        self._slowest.move_to_end(key)
        if len(self._slowest) > MAX_SHAPES:
            self._slowest.popitem(last=False)

    def timeout(self, shape: Shape, *, is_first: bool) -> float:
        """Seconds after which a batch of `shape` counts as hung. `is_first`: its worker has done none of this shape."""
        limits = self._limits
        patience = limits.patience.get(shape[0], 1.0)
        slowest = self._slowest.get((shape, is_first), self._slowest.get((shape, True)))
        if slowest is None:
            return patience * min(limits.first_batch_timeout, limits.batch_timeout)
        shortest, longest = patience * limits.min_batch_timeout, patience * limits.batch_timeout
        return min(max(shortest, _SLOWDOWN * slowest), longest)
