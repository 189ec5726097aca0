"""How long a batch of a shape may take, learnt from those before it. Pure, front process."""

from __future__ import annotations

from collections import OrderedDict

from pool.limits import Limits

Shape = tuple[str, int]
"""Batch key and rows: what decides how long a batch takes."""

_SLOWDOWN = 5.0
_FORGETTING = 0.05
_MAX_SHAPES = 1024


class Pace:
    """The slowest batch of each shape lately, forgotten slowly."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slowest: OrderedDict[Shape, float] = OrderedDict()

    def observe(self, shape: Shape, seconds: float) -> None:
        """A batch of `shape` was done after `seconds`."""
        before = self._slowest.get(shape, 0.0)
        self._slowest[shape] = max(seconds, before + (seconds - before) * _FORGETTING)
        self._slowest.move_to_end(shape)
        if len(self._slowest) > _MAX_SHAPES:
            self._slowest.popitem(last=False)

    def timeout(self, shape: Shape) -> float:
        """Seconds after which a batch of `shape` counts as hung.

        The first of a shape may have to compile or to choose kernels, so it has a limit of its own.
        """
        limits = self._limits
        slowest = self._slowest.get(shape)
        if slowest is None:
            return min(limits.first_batch_timeout, limits.batch_timeout)
        return min(max(limits.min_batch_timeout, _SLOWDOWN * slowest), limits.batch_timeout)
