"""Whether to spread an image over all cores. Other work on the machine can make that slower: it is measured.

Threads that share an image wait for each other many times, so one that lacks its core holds up all. Runs in a worker.
"""

from __future__ import annotations

_WEIGHT = 0.2
"""Of the latest run in the mean."""
_MIN_REST, _MAX_REST = 4, 256
"""Runs on few threads after one on many that was slower: twice as many each time, until one is faster."""


class Widening:
    """Remembers what an image takes on few threads, in seconds, and how runs on many fared."""

    def __init__(self) -> None:
        self._narrow_seconds: float | None = None
        self._rest = 0
        self._next_rest = _MIN_REST

    def is_worth_it(self) -> bool:
        """Whether the next image should run on many threads. Each call stands for an image."""
        if self._rest:
            self._rest -= 1
            return False
        return True

    def observe_narrow(self, seconds: float) -> None:
        """One has run on few threads."""
        known = self._narrow_seconds
        self._narrow_seconds = seconds if known is None else known + _WEIGHT * (seconds - known)

    def observe_wide(self, seconds: float) -> None:
        """One has run on many threads."""
        if self._narrow_seconds is None or seconds < self._narrow_seconds:
            self._next_rest = _MIN_REST
        else:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _MAX_REST)
