"""The system's resolver in threads of its own: slow name servers must not hold up anything else."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future

from server.errors import RequestFailedError

MAX_LOOKUPS = 64
"""Names that are looked up at once, which is as many threads."""


class Resolver:
    """A lookup cannot be cancelled: one that hangs keeps its thread until the system gives up on it, which may be
    long after its caller did. So all who want the same name wait for one lookup; there are never more than
    MAX_LOOKUPS; and the threads are daemons, each for one lookup, so that a stop does not wait for them."""

    def __init__(self, max_lookups: int = MAX_LOOKUPS) -> None:
        self._max_lookups = max_lookups
        self._lookups: dict[str, asyncio.Future[list[str]]] = {}

    @property
    def num_lookups(self) -> int:
        """Names that are being looked up now."""
        return len(self._lookups)

    async def __call__(self, host: str, port: int) -> list[str]:
        """Addresses of `host`. Raises OSError or UnicodeError (a label that is too long), and RequestFailedError
        ``overloaded`` at once where too many lookups are under way."""
        lookup = self._lookups.get(host)
        if lookup is None:
            if len(self._lookups) >= self._max_lookups:
                raise RequestFailedError("overloaded")
            lookup = self._lookups[host] = self._start(host, port)
        return await asyncio.shield(lookup)

    def _start(self, host: str, port: int) -> asyncio.Future[list[str]]:
        answer: Future[list[str]] = Future()
        lookup = asyncio.wrap_future(answer)
        lookup.add_done_callback(lambda done: self._end(host, done))
        threading.Thread(target=_look_up, args=(answer, host, port), name="resolve", daemon=True).start()
        return lookup

    def _end(self, host: str, lookup: asyncio.Future[list[str]]) -> None:
        del self._lookups[host]
        if not lookup.cancelled():
            lookup.exception()  # looked at: all who waited may have left


def _look_up(answer: Future[list[str]], host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        answer.set_exception(error)
    else:
        answer.set_result(list(dict.fromkeys(str(entry[4][0]) for entry in found)))
