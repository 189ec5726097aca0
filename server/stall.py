"""A client that does not take its reply is not waited for without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Stall:
    """One span in which replies wait for a client. `on_progress` is told what still waits, in bytes, after each
    `timeout` in which some was taken; `on_end` is called after one in which nothing was."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        timeout: float,
        on_progress: Callable[[int], None],
        on_end: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._on_progress = on_progress
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._num_bytes = transport.get_write_buffer_size()
        self._timer = self._loop.call_later(timeout, self._look)

    def _look(self) -> None:
        num_bytes = self._transport.get_write_buffer_size()
        if num_bytes >= self._num_bytes:  # nothing is added while it waits
            self._on_end()
            return
        self._num_bytes = num_bytes
        self._on_progress(num_bytes)
        self._timer = self._loop.call_later(self._timeout, self._look)

    def cancel(self) -> None:
        """It is over."""
        self._timer.cancel()
