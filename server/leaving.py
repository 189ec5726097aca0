"""How the server leaves: it says so first, takes what still comes, finishes, and only then ends.

SIGTERM   readiness says no, every reply closes its connection, new requests are still answered (`lame_duck`
          seconds: load balancers notice) ──▶ the port closes ──▶ what is in flight is finished ──▶ the end
SIGINT    the same without the first step: somebody sits at the keyboard
a second  stops at once; what is in flight is told so
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

log = logging.getLogger(__name__)

LAST_REQUESTS_TIMEOUT = 1.0
"""Seconds for a connection that was just made to send its request."""


class Leaving(uvicorn.Server):
    """uvicorn's server with that end. `on_listening` and `on_leaving` are called when they say."""

    def __init__(
        self,
        config: uvicorn.Config,
        lame_duck: float,
        on_listening: Callable[[], None],
        on_leaving: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._lame_duck = lame_duck
        self._on_listening = on_listening
        self._on_leaving = on_leaving
        self._is_leaving = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.exit_code = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as usual, then say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        if self._is_leaving:
            self.should_exit = self.force_exit = True
            return
        self._is_leaving = True
        wait = self._lame_duck if sig == signal.SIGTERM else 0.0
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._leave, wait)

    def give_up(self, exit_code: int) -> None:
        """End with this code because nothing can be done here any more."""
        if not self._is_leaving:
            self._is_leaving, self.exit_code = True, exit_code
            self._leave(0.0)

    def _leave(self, wait: float) -> None:
        log.info("leaving", extra={"lame_duck": wait})
        self._on_leaving()
        assert self._loop is not None
        self._loop.call_later(wait, self._exit)

    def _exit(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take every connection that was made, then stop as usual."""
        if not self.force_exit:
            await self._close_port(sockets or [])
            deadline = time.monotonic() + LAST_REQUESTS_TIMEOUT
            # uvicorn tells nobody when a connection ends
            while self.server_state.connections and time.monotonic() < deadline and not self.force_exit:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await super().shutdown(sockets)

    async def _close_port(self, sockets: list[socket.socket]) -> None:
        """Stop listening. Who was let in by the kernel before would be cut off: they are accepted here, so that
        only microseconds are left between the last of them and the end of the port."""
        accepted: list[socket.socket] = []
        with contextlib.ExitStack() as listeners:
            try:
                last = [listeners.enter_context(sock.dup()) for sock in sockets]
            except OSError as error:
                last = []
                log.warning("connections not yet accepted are lost: %s", error.strerror)
            for server in self.servers:
                server.close()
            for sock in sockets:
                sock.close()
            for listener in last:
                accepted += _accept_all(listener)
        loop = asyncio.get_running_loop()
        for connection in accepted:
            await loop.connect_accepted_socket(self._make_protocol, connection)

    def _make_protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """Whoever waits; fewer if there are no descriptors for all."""
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    while True:
        try:
            accepted.append(listener.accept()[0])
        except BlockingIOError:
            return accepted
        except ConnectionAbortedError:  # that client has left
            continue
        except OSError as error:
            log.warning("connections not yet accepted are lost: %s", error.strerror)
            return accepted
