"""When a worker has to be looked at although nothing has gone wrong. Front process."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from pool.limits import Limits

_MAX_SHORTAGES = 3
_SHORTAGE_WINDOW = 60.0


class Checkup:
    """Calls `on_idle` each time a worker has had nothing to do for `canary_interval`; counts its shortages of memory.

    One timer per worker, not one per batch.
    """

    def __init__(self, limits: Limits, on_idle: Callable[[], None]) -> None:
        self._interval = limits.canary_interval
        self._on_idle = on_idle
        self._timer: asyncio.TimerHandle | None = None
        self._active_at = 0.0
        self._short_at: deque[float] = deque(maxlen=_MAX_SHORTAGES)

    def begin(self) -> None:
        """The worker serves from now on."""
        self.note_activity()
        self._check()

    def note_activity(self) -> None:
        """It has done something, so it need not be looked at for a while."""
        self._active_at = time.monotonic()

    def note_shortage(self) -> bool:
        """A batch did not fit into memory. True if that happens so often that a fresh worker is better."""
        self._short_at.append(time.monotonic())
        return (
            len(self._short_at) == _MAX_SHORTAGES
            and self._short_at[-1] - self._short_at[0] < _SHORTAGE_WINDOW
        )

    def end(self) -> None:
        """The worker is gone. Safe to call twice."""
        self._short_at.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        wait = self._active_at + self._interval - time.monotonic()
        if wait <= 0:
            self.note_activity()
            self._on_idle()
            wait = self._interval
        self._timer = asyncio.get_running_loop().call_later(wait, self._check)
