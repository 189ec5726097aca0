"""How late the event loop wakes up: what every request on it waits for nothing. Front process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL = 0.25
"""Seconds between two looks."""


class LoopLag:
    """Sets itself a timer again and again and tells how many seconds late each was."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + INTERVAL, self._look, loop, loop.time() + INTERVAL)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        self._observe(max(0.0, now - due))
        self._timer = loop.call_at(now + INTERVAL, self._look, loop, now + INTERVAL)

    def stop(self) -> None:
        """No more of it. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
