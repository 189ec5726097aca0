"""An origin on loopback that records what reaches it, and a way to it that pretends to be the internet."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpcore

from server.dial import GuardedBackend
from server.reach import Reach
from server.resolver import Resolver

PUBLIC = "93.184.215.14"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Origin:
    """Answers by path; `hits` are the request heads it saw, `dials` the addresses that were dialled to reach it."""

    port: int = 0
    answers: dict[str, bytes | Answer] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    dials: list[str] = field(default_factory=list)
    names: dict[str, list[str] | Exception] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)

    def backend(self, reach: Reach | None = None) -> GuardedBackend:
        """The real guard; only where a permitted dial ends up is made up."""
        return GuardedBackend(self._resolve, _ToOrigin(self), reach)

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.lookups.append(host)
        if host in self.names:
            answer = self.names[host]
            if isinstance(answer, Exception):
                raise answer
            return answer
        if host[-1:].isalpha() and ":" not in host and host != "localhost" and not host.startswith("0x"):
            raise OSError("no such name")
        return await Resolver()(host, port)  # numbers in all their spellings, without a name server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.hits.append(head)
            answer = self.answers.get(head.split()[1], response(b"", "404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        writer.close()


class _ToOrigin(httpcore.AsyncNetworkBackend):
    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self._origin.dials.append(host)
        return await self._inner.connect_tcp("127.0.0.1", self._origin.port, timeout=timeout)


def response(body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP response with its length."""
    lines = {"Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def redirect(location: str) -> bytes:
    """To somewhere else."""
    return response(b"", "302 Found", {"Location": location})


@contextlib.asynccontextmanager
async def running_origin(tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    """An origin while it runs. ``images.example`` leads to it."""
    origin = Origin(names={"images.example": [PUBLIC]})
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        # asyncio loses the socket of a connection that it has accepted but not yet set up when its server closes
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(0)
        server.close()
