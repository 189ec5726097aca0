"""An internet of one's own, in a network namespace of its own: every IPv4 address there is, DNS, HTTP and TLS, all of
it written down. Nothing that is sent here leaves the namespace.

Run inside ``unshare --net --mount``: `take_all_addresses` and `be_the_name_server` change the namespaces they run in.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.origin import Answer, response

_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_UP = 0x1 | 0x8 | 0x40  # IFF_UP, IFF_LOOPBACK, IFF_RUNNING
_BLOCKS = (
    "1.0.0.1/8",
    "2.0.0.1/7",
    "4.0.0.1/6",
    "8.0.0.1/5",
    "16.0.0.1/4",
    "32.0.0.1/3",
    "64.0.0.1/2",
    "128.0.0.1/1",
)
V6 = ("fd00:ec2::254", "fd12:3456::1", "2606:4700::1111")
PORTS = (80, 443, 22, 6379, 8080)


@dataclass(frozen=True)
class Hit:
    """A connection that arrived: the address and port that were dialled, and the first line that was said."""

    address: str
    port: int
    line: str = ""


@dataclass
class Internet:
    """`answers` by path. `names`: for each query of a name, in turn, its addresses; the last ones stay."""

    answers: dict[str, bytes | Answer] = field(default_factory=dict)
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def start(self, tls: ssl.SSLContext) -> None:
        """Listen on every address, and answer questions for names on 127.0.0.1."""
        for port in PORTS:
            server = await asyncio.start_server(
                lambda reader, writer: self._serve(reader, writer),
                sock=_listener(port),
                ssl=tls if port == 443 else None,
            )
            self._servers.append(server)
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: _Names(self), local_addr=("127.0.0.1", 53))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address, port = writer.get_extra_info("sockname")[:2]
        address = address.removeprefix("::ffff:")
        self.hits.append(Hit(address, port))
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.hits[-1] = Hit(address, port, head.splitlines()[0])
            answer = self.answers.get(head.split()[1], response(b"", "404 Not Found"))
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # written down already, which is what it is here for
        writer.close()

    def addresses(self, name: str) -> list[str]:
        """What the next query of `name` is answered."""
        turns = self.names.get(name, [[]])
        return turns.pop(0) if len(turns) > 1 else turns[0]


class _Names(asyncio.DatagramProtocol):
    def __init__(self, internet: Internet) -> None:
        self._internet = internet
        self._turns: dict[str, list[str]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, query: bytes, sender: tuple[str, int]) -> None:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii").lower())
            at += 1 + query[at]
        (kind,) = struct.unpack_from("!H", query, at + 1)
        name = ".".join(labels)
        self._internet.queries.append(name)
        if kind == 1:  # A and AAAA of one lookup come together, and count as one turn
            self._turns[name] = self._internet.addresses(name)
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
        known = self._turns.get(name, []) if kind == 1 else _at_any_turn(self._internet, name)
        found = [a for a in known if (":" in a) == (family == socket.AF_INET6)] if family else []
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(packed)) + packed
            for packed in (socket.inet_pton(family, address) for address in found if family)
        )
        code = 0x8180 if name in self._internet.names else 0x8183
        head = query[:2] + struct.pack("!HHHHH", code, 1, len(found), 0, 0)
        self._transport.sendto(head + query[12 : at + 5] + records, sender)  # type: ignore[attr-defined]


def _at_any_turn(internet: Internet, name: str) -> list[str]:
    return [address for turn in internet.names.get(name, []) for address in turn]


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    return listener


def take_all_addresses() -> None:
    """Give the loopback device all of IPv4, and of IPv6 the addresses V6. Raises OSError."""
    with socket.socket(socket.AF_INET) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP))
        for number, block in enumerate(_BLOCKS):
            address, _, prefix = block.partition("/")
            mask = socket.inet_ntoa(struct.pack("!I", 2**32 - 2 ** (32 - int(prefix))))
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, mask)):
                packed = struct.pack(
                    "16sHH4s8x", f"lo:{number}".encode(), socket.AF_INET, 0, socket.inet_aton(value)
                )
                fcntl.ioctl(control, request, packed)
    with socket.socket(socket.AF_INET6) as control:
        for address in V6:
            packed = socket.inet_pton(socket.AF_INET6, address)
            fcntl.ioctl(control, _SIOCSIFADDR, packed + struct.pack("Ii", 128, socket.if_nametoindex("lo")))


def be_the_name_server(folder: Path) -> None:
    """Every process here asks 127.0.0.1 for names, and nothing but it. Raises CalledProcessError."""
    files: Mapping[str, str] = {
        "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    for place, text in files.items():
        ours = folder / Path(place).name
        ours.write_text(text)
        if Path(place).exists():
            stand_in(ours, Path(place))


def stand_in(ours: Path, theirs: Path) -> None:
    """Whoever reads `theirs` in this mount namespace reads `ours`. Raises CalledProcessError."""
    subprocess.run(["mount", "--bind", str(ours), str(theirs.resolve())], check=True)
