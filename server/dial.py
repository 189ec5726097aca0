"""The dial: which addresses may be connected to. Names are resolved once, every answer must be allowed, and the
address that was checked is the one that is dialled."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore

from server.reach import Reach
from server.resolver import Resolver

MAX_DIALS = 2
"""How many of a name's addresses are tried."""
MAX_ADDRESSES = 64
"""How many a name may have: each of them is checked."""
MAX_HEAD_BYTES = 32 * 1024
HEAD_READ_BYTES = 4096
"""Of one read before the body begins: parsing thousands of interim responses takes long, and nothing else runs
meanwhile."""

Resolve = Callable[[str, int], Awaitable[list[str]]]


class BlockedError(Exception):
    """The dial was refused: the host, address or port is not one that may be reached."""


class FetchFailedError(Exception):
    """The image did not come; `reason` is one of dns, connect, timeout, status, too_large, encoding, redirect,
    truncated, protocol."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's hook for the dial itself, so that no path through it can skip the check."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        inner: httpcore.AsyncNetworkBackend | None = None,
        reach: Reach | None = None,
    ) -> None:
        self._resolve = resolve or Resolver()
        self._inner = inner or httpcore.AnyIOBackend()
        self._reach = reach or Reach()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check all answers, dial; all of it within `timeout` seconds.

        Raises BlockedError, FetchFailedError, RequestFailedError ``overloaded`` or httpcore's own.
        """
        if port not in self._reach.ports or not self._reach.has_host(host):
            raise BlockedError("host or port")
        try:
            async with asyncio.timeout(timeout):
                return await self._dial(await self._addresses(host, port), port)
        except TimeoutError:
            raise FetchFailedError("timeout") from None

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError, OverflowError):
            raise FetchFailedError("dns") from None
        if len(addresses) > MAX_ADDRESSES:
            raise FetchFailedError("dns")
        # One private answer among public ones is refused too.
        if not addresses or not all(map(self._reach.has_address, addresses)):
            raise BlockedError("address")
        return addresses

    async def _dial(self, addresses: list[str], port: int) -> httpcore.AsyncNetworkStream:
        failure: Exception = FetchFailedError("connect")
        for address in addresses[:MAX_DIALS]:
            try:
                return BoundedStream(await self._inner.connect_tcp(address, port))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise BlockedError("unix socket")

    async def sleep(self, seconds: float) -> None:
        """httpcore's own pause between tries."""
        await asyncio.sleep(seconds)


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection from which no more is read than a response may take: its head first, in small reads, then what
    `expect_body` allows."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._num_bytes_left = MAX_HEAD_BYTES
        self._max_read = HEAD_READ_BYTES
        self._excess = "protocol"

    def expect_body(self, max_bytes: int) -> None:
        """The head has come. What frames a body of `max_bytes` may be as long again."""
        self._num_bytes_left = MAX_HEAD_BYTES + 2 * max_bytes
        self._max_read = 2**16
        self._excess = "too_large"

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Raises FetchFailedError where the limit is reached, or httpcore's own."""
        if self._num_bytes_left <= 0:
            raise FetchFailedError(self._excess)
        chunk = await self._inner.read(min(max_bytes, self._max_read), timeout)
        self._num_bytes_left -= len(chunk)
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """As the stream inside does."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """As the stream inside does."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """What TLS brings is bounded, not what brings it."""
        return BoundedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """As the stream inside does."""
        return self._inner.get_extra_info(info)
