"""Clients that hold connections and never end a request, in a process of their own that costs next to nothing.

    python -m bench.dripping --url http://127.0.0.1:5000 --connections 1000

Says `ready` once all are connected, connects again whoever was thrown out, and at the end of its input says as JSON how
long the ended ones of each kind lasted, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import resource
import socket
import sys
import time
from urllib.parse import urlsplit

import uvloop

KINDS = (*("silent", "head", "body") * 6, "silent", "reader")
"""Of every twenty connections. A reader is work until its replies have filled the kernel's buffers: that is load, not
slowness, so there are few."""
_FIRST = {
    "silent": b"",
    "head": b"GET /livez HTTP/1.1\r\nHost: x\r\nA: ",
    "body": b"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 1000000\r\n\r\n",
    "reader": b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 16,
}
_PAUSE = 1.0
"""Seconds between two bytes of one connection."""
_SLICES = 20


class Drip(asyncio.Protocol):
    """One connection."""

    def __init__(self, attack: Attack, kind: str) -> None:
        self._attack = attack
        self._kind = kind
        self._started = time.monotonic()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        assert self._transport is not None
        if self._kind == "reader":
            self._transport.pause_reading()
        self._transport.write(_FIRST[self._kind])

    def drip(self) -> None:
        """One byte more, or the requests of one who does not read the replies."""
        assert self._transport is not None
        if self._kind == "reader":
            if not self._transport.get_write_buffer_size():
                self._transport.write(_FIRST["reader"])
        elif self._kind != "silent":
            self._transport.write(b"1")

    def connection_lost(self, exc: Exception | None) -> None:
        self._attack.ended(self, self._kind, time.monotonic() - self._started)


class Attack:
    """All of them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._drips: dict[Drip, None] = {}
        self._lasted: dict[str, list[float]] = collections.defaultdict(list)
        self._is_over = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, kind: str) -> None:
        """One more."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        if kind == "reader":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(sock, self._address)
        _, drip = await loop.create_connection(lambda: Drip(self, kind), sock=sock)
        self._drips[drip] = None

    def ended(self, drip: Drip, kind: str, seconds: float) -> None:
        """The server has had enough of it: another takes its place."""
        self._drips.pop(drip, None)
        if not self._is_over:
            self._lasted[kind].append(seconds)
            task = asyncio.get_running_loop().create_task(self.connect(kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self, num_connections: int) -> dict[str, list[float]]:
        """Until the end of the input. How long those lasted that were ended meanwhile."""
        for number in range(num_connections):
            await self.connect(KINDS[number % len(KINDS)])
        print("ready", flush=True)
        waiting = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        turn = 0
        while not waiting.done():
            for drip in list(self._drips)[turn % _SLICES :: _SLICES]:
                drip.drip()
            turn += 1
            await asyncio.sleep(_PAUSE / _SLICES)
        self._is_over = True
        return self._lasted


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=1000)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = args.connections + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    print(json.dumps(uvloop.run(Attack(args.url).run(args.connections))))


if __name__ == "__main__":
    main()
