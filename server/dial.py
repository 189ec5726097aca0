"""The dial: which addresses may be connected to. Names are resolved once, every answer must be public, and the
address that was checked is the one that is dialled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import httpcore

PORTS = (80, 443)
MAX_DIALS = 2
"""How many of a name's addresses are tried."""

V4_DENIED = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host agent has a public address
    )
)  # fmt: skip
V6_ALLOWED = IPv6Network("2000::/3")
"""An allowed range, so that NAT64, v4-compatible, unique local and link-local addresses all fail closed."""
V6_DENIED = tuple(
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)

Resolve = Callable[[str, int], Awaitable[list[str]]]


class BlockedError(Exception):
    """The dial was refused: the address or port is not one that may be reached."""


class FetchFailedError(Exception):
    """The image did not come; `reason` is one of dns, connect, timeout, status, too_large, encoding, redirect,
    truncated, protocol."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def is_public(address: str) -> bool:
    """True for an IP address that belongs to the public internet."""
    try:
        ip = ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if ip.version == 6 and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.version == 4:
        return not any(ip in network for network in V4_DENIED)
    return ip in V6_ALLOWED and not any(ip in network for network in V6_DENIED)


class Resolver:
    """The system's resolver in threads of its own: slow name servers must not hold up anything else."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(4, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> list[str]:
        """Addresses of `host`. Raises OSError or UnicodeError (a label that is too long)."""
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(
            self._executor, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """httpcore's hook for the dial itself, so that no path through it can skip the check."""

    def __init__(
        self, resolve: Resolve | None = None, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._resolve = resolve or Resolver()
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check all answers, dial. Raises BlockedError, FetchFailedError or httpcore's own."""
        if port not in PORTS:
            raise BlockedError("port")
        try:
            addresses = await asyncio.wait_for(self._resolve(host, port), timeout)
        except TimeoutError:
            raise FetchFailedError("timeout") from None
        except (OSError, UnicodeError, OverflowError):
            raise FetchFailedError("dns") from None
        # One private answer among public ones is refused too.
        if not addresses or not all(map(is_public, addresses)):
            raise BlockedError("address")
        failure: Exception = FetchFailedError("connect")
        for address in addresses[:MAX_DIALS]:
            try:
                return await self._inner.connect_tcp(address, port, timeout=timeout)
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
