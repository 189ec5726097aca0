"""The front's end of a worker's socket: never blocks, never loses what was sent before a death. Front process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from pool.protocol import FrameReader, Message, ProtocolError, encode

_RECEIVE_BYTES = 256 * 1024
_FRAME_ALLOWANCE = 1024 * 1024


class Channel:
    """Length-prefixed messages over one non-blocking stream socket.

    `on_message` gets every message. `on_violation` is called once with the ProtocolError when the worker sends
    nonsense; nothing is read afterwards. The end of the stream is not reported: a worker's death is told by its
    process, and only then `drain` reads what it still said.
    """

    def __init__(
        self,
        connection: socket.socket,
        max_payload_bytes: int,
        on_message: Callable[[Message], None],
        on_violation: Callable[[ProtocolError], None],
    ) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._reader = FrameReader(max_payload_bytes + _FRAME_ALLOWANCE)
        self._on_message = on_message
        self._on_violation = on_violation
        self._unsent: list[tuple[bytes | memoryview, int | None]] = []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self._on_readable)
        self._is_reading = True

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Queue `message` (with a descriptor beside its first byte) and send what the kernel takes now."""
        self._unsent.append((encode(message), descriptor))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            frame, descriptor = self._unsent[0]
            try:
                if descriptor is None:
                    sent = self._socket.send(frame)
                else:
                    sent = socket.send_fds(self._socket, [frame], [descriptor])
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self._unsent.clear()  # the worker is dying; its process will tell
                break
            if sent == len(frame):
                self._unsent.pop(0)
            else:
                self._unsent[0] = (memoryview(frame)[sent:], None)
        self._loop.remove_writer(self._socket.fileno())

    def _on_readable(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """True while there may be more to read."""
        try:
            chunk = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._stop_reading()
            return False
        try:
            for message in self._reader.feed(chunk):
                self._on_message(message)
        except ProtocolError as error:
            self._stop_reading()
            self._on_violation(error)
            return False
        return self._is_reading

    def drain(self) -> None:
        """Deliver every complete message the dead worker had sent; a cut frame is dropped."""
        while self._is_reading and self._read_once():
            pass

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Give the descriptors back. Safe to call twice."""
        if self._socket.fileno() >= 0:
            self._stop_reading()
            self._loop.remove_writer(self._socket.fileno())
            self._unsent.clear()
            self._socket.close()
