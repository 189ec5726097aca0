"""The end of the port, with connections that the loop has not taken yet."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator

import pytest
import uvicorn
import uvloop

from server.leaving import Leaving
from server.listener import listen
from tests.server.conftest import until


async def app(scope: object, receive: object, send: object) -> None:
    """Never asked anything."""


def make_leaving() -> Leaving:
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", log_config=None)
    config.load()
    leaving = Leaving(config, 0.0, lambda: None, lambda: None)
    leaving.servers = []
    leaving.lifespan = config.lifespan_class(config)
    return leaving


def connect(listener: socket.socket, num_clients: int) -> list[socket.socket]:
    """Connections that the kernel has made and nobody has accepted."""
    return [socket.create_connection(listener.getsockname()) for _ in range(num_clients)]


def test_connections_reset_before_they_were_taken_cost_the_others_nothing() -> None:
    async def main() -> None:
        leaving, listener = make_leaving(), listen("127.0.0.1", 0)
        clients = connect(listener, 3)
        clients[1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        clients[1].close()
        await leaving._close_port([listener])
        assert len(leaving.server_state.connections) >= 2
        for client in clients:
            client.close()
        await until(lambda: not leaving.server_state.connections)

    uvloop.run(main())


@contextlib.contextmanager
def few_descriptors(num_left: int) -> Iterator[None]:
    """Only so many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(num_left):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in held:
            os.close(number)


@pytest.mark.parametrize("num_left", [0, 2])
def test_a_lack_of_descriptors_does_not_keep_the_server_from_leaving(num_left: int) -> None:
    async def main() -> None:
        leaving, listener = make_leaving(), listen("127.0.0.1", 0)
        clients = connect(listener, 5)
        with few_descriptors(num_left):
            await leaving._close_port([listener])
        assert listener.fileno() == -1
        for client in clients:
            client.close()
        await until(lambda: not leaving.server_state.connections)

    uvloop.run(main())
