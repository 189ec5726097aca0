"""HTTP byte by byte: a client that keeps no rule of its own."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.hostile.leaks import assert_no_leak

PATIENCE = 30.0
MAX_REMEMBERED = 1 << 20
"""Bytes of what was sent: a reply may say them again."""


@dataclass(frozen=True)
class RawReply:
    """What came back; `status` 0 means that the connection closed without a word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of an error in the shape of any protocol."""
        error: Any = json.loads(self.body)["error"]
        if isinstance(error, str):
            return error.partition(":")[0]
        assert set(error) in ({"code", "message", "request_id"}, {"code", "message", "type", "param"})
        return str(error["code"])


class RawConnection:
    """One connection. A peer that resets it has closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self._received = b""
        self._sent = b""

    def send(self, content: bytes) -> bool:
        """False where the peer takes no more."""
        self._sent += content[: max(0, MAX_REMEMBERED - len(self._sent))]
        try:
            self.socket.sendall(content)
        except OSError:
            return False
        return True

    def _receive(self) -> bool:
        try:
            chunk = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._received += chunk
        return bool(chunk)

    def reply(self) -> RawReply:
        """The next reply, with as much of a body as its Content-Length says, and nothing of the server's inside.
        Raises TimeoutError."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return RawReply(0, {}, self._received)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length and self._receive():
            pass
        body, self._received = self._received[:length], self._received[length:]
        assert_no_leak(head.decode("latin-1"), body, self._sent.decode("utf-8", "backslashreplace"))
        return RawReply(int(first.split()[1]), headers, body)

    def replies(self) -> list[RawReply]:
        """All of them up to the end of the connection. Raises TimeoutError."""
        return list(iter(self.reply, RawReply(0, {}, b"")))

    def is_closed_by_peer(self) -> bool:
        """Waits for the end; False if more bytes come first. Raises TimeoutError."""
        return not self._received and not self._receive()


@contextlib.contextmanager
def connected(address: tuple[str, int]) -> Iterator[RawConnection]:
    """A connection, closed at the end."""
    connection = RawConnection(address)
    try:
        yield connection
    finally:
        connection.socket.close()


def exchange(address: tuple[str, int], content: bytes) -> RawReply:
    """Send all of it on a connection of its own, and the first reply."""
    with connected(address) as connection:
        connection.send(content)
        return connection.reply()
