"""A decoder that does what an image tells it to, as one that a stranger has taken over would. For tests only: nothing
but a test names this module as a pool's factory.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pool.model import Pixels, Progress
from server.decoder_slot import DrawOrder, Order
from server.decoder_worker import IsolatedDecoder, make

MARK = b"OBEY"
"""Behind the end of a picture stands this, then an order and perhaps an argument."""


def order(picture: bytes, text: str) -> bytes:
    """`picture` with an order behind its end."""
    return picture + MARK + text.encode()


class Obedient(IsolatedDecoder):
    """Orders: the names of `_ORDERS`, and ``try NAME``, whose outcome comes back as the picture's width."""

    def decode(self, memory: Pixels, order: Order) -> tuple[int, int]:
        _, mark, text = memory[order.start : order.end].tobytes().partition(MARK)
        if mark:
            name, _, argument = text.decode().partition(" ")
            if name == "draw":
                return super().decode(memory, order)
            if name == "try":
                return _attempt(*argument.split(" ", 1)), 1
            _ORDERS[name.rstrip("0123456789")]()
        return super().decode(memory, order)

    def draw(self, memory: Pixels, order: DrawOrder) -> int:
        """Orders stand behind ``draw``, so that the image is decoded for the model before."""
        _, mark, text = memory[order.start : order.answer_start].tobytes().partition(MARK + b"draw ")
        if mark and text == b"lie":
            return order.max_bytes
        if mark:
            _ORDERS[text.decode().rstrip("0123456789")]()
        return super().draw(memory, order)


def _bomb() -> None:
    kept = []
    while True:
        kept.append(np.empty(2**27, np.uint8))


def _loop() -> None:
    while True:
        pass


def _raise() -> None:
    raise RuntimeError("a text with a /secret/path")


_ORDERS: Mapping[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(17),
    "leave": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "loop": _loop,
    "bomb": _bomb,
    "raise": _raise,
}


def _attempt(name: str, argument: str = "") -> int:
    """1 if it could be done, 2 if it was refused."""
    try:
        _ATTEMPTS[name](argument)
    except (OSError, MemoryError, ValueError):  # the last one of a limit
        return 2
    return 1


def _call(number: int, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _load_program(path: str) -> None:
    os.execv(path, [path])


_ATTEMPTS: Mapping[str, Callable[[str], object]] = {
    "nothing": lambda _: None,
    "read": lambda path: Path(path).read_bytes(),
    "write": lambda path: Path(path).write_bytes(b"x"),
    "remove": lambda path: Path(path).unlink(),
    "list": lambda path: os.listdir(path),  # noqa: PTH208
    "connect": lambda port: socket.socket().connect(("127.0.0.1", int(port))),
    "socket": lambda _: socket.socket(),
    "pipe": lambda _: os.pipe(),
    "fork": lambda _: os.fork() or os._exit(0),
    "exec": _load_program,
    "signal": lambda pid: os.kill(int(pid), 0),
    "raise_limit": lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "become_root": lambda _: os.setresuid(0, 0, 0),
    "ptrace": lambda pid: _call(101 if os.uname().machine == "x86_64" else 117, 16, int(pid), 0, 0),
    "unshare": lambda _: _call(272 if os.uname().machine == "x86_64" else 97, 0x10000000),
}


def load(config: Mapping[str, Any], device: str, progress: Progress) -> Obedient:
    """The factory."""
    decoder = make(config, Obedient)
    assert isinstance(decoder, Obedient)
    return decoder
