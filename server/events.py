"""`GET /events`: the state of all pools once a second, as server-sent events, for as long as somebody watches.

One task makes one snapshot for all viewers and ends with the last of them. A viewer that reads slowly misses some and
then gets the newest: nothing is kept for it. One that reads nothing is ended by the connection's `send_timeout`.
"""

from __future__ import annotations

import asyncio

import orjson
from starlette.types import Receive, Scope, Send

from server.disconnect import cancelled_on_disconnect
from server.engine import Engine
from server.errors import ClientDisconnectedError, RequestFailedError
from server.snapshots import Snapshots

INTERVAL = 1.0
MAX_WATCH = 600.0
"""Seconds after which a stream ends and the page asks anew: with a key that may have ended meanwhile."""
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect events
]


class Events:
    """The ASGI application of the route."""

    def __init__(self, engine: Engine, interval: float = INTERVAL, max_watch: float = MAX_WATCH) -> None:
        self._engine = engine
        self._snapshots = Snapshots(engine.registry, engine.metrics)
        self._interval = interval
        self._max_watch = max_watch
        self._newest = b""
        self._next: asyncio.Future[None] | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.num_viewers = 0
        self.num_made = 0
        """Snapshots since the start."""
        engine.on_leave.append(self._wake)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client or the server leaves. Raises RequestFailedError."""
        start = {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        code = "shutting_down" if self._engine.is_leaving else "overloaded"
        if self._engine.is_leaving or self.num_viewers >= self._engine.settings.max_viewers:
            raise RequestFailedError(code)
        self.num_viewers += 1
        try:
            async with cancelled_on_disconnect(receive):
                await send(start)
                await self._stream(send)
        except ClientDisconnectedError:
            return
        finally:
            self.num_viewers -= 1
            if not self.num_viewers and self._ticking is not None:
                self._ticking.cancel()
                self._ticking = None

    async def _stream(self, send: Send) -> None:
        if self._ticking is None:
            self._take()
            self._ticking = asyncio.create_task(self._tick(), name="events")
        loop = asyncio.get_running_loop()
        until = loop.time() + self._max_watch
        # the state at once, later changes by themselves; how long to wait before asking anew
        await send(
            {"type": "http.response.body", "body": b"retry: 2000\n\n" + self._newest, "more_body": True}
        )
        while not self._engine.is_leaving and loop.time() < until:
            if self._next is None:
                self._next = loop.create_future()
            await asyncio.shield(self._next)
            if not self._engine.is_leaving:
                await send({"type": "http.response.body", "body": self._newest, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self._take()
            self._wake()

    def _take(self) -> None:
        self.num_made += 1
        self._newest = (
            b"event: pools\ndata: " + orjson.dumps(self._snapshots.take(self.num_viewers)) + b"\n\n"
        )

    def _wake(self) -> None:
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
