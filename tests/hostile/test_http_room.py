"""More connections than there is room for: who waits for a request makes room, who has one is never touched."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hostile.raw import RawConnection, connected
from tests.serving import RunningServer, running_server

ROOM = 8
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
BODY = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"

Address = tuple[str, int]


def address_of(server: RunningServer) -> Address:
    parts = urlsplit(server.url)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


def descriptors(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(environment={"ENGINE_MAX_CONNECTIONS": str(ROOM)}) as running:
        yield running


@pytest.fixture
def address(server: RunningServer) -> Iterator[Address]:
    """Afterwards a stranger must be served."""
    yield address_of(server)
    with connected(address_of(server)) as connection:
        connection.send(GET + b"\r\n")
        assert connection.reply().status == 200


def ask(connection: RawConnection) -> int:
    """The status of a GET; 0 if the connection has ended."""
    connection.send(GET + b"\r\n")
    return connection.reply().status


@contextlib.contextmanager
def several(address: Address, number: int) -> Iterator[list[RawConnection]]:
    """Connections, in the order in which they were made."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connected(address)) for _ in range(number)]


def test_the_connection_that_was_idle_longest_makes_room(address: Address) -> None:
    with several(address, ROOM) as connections:
        for connection in [*connections, connections[0]]:  # the first is the one used last
            assert ask(connection) == 200
        with connected(address) as another:
            assert ask(another) == 200
            assert connections[1].is_closed_by_peer()
            assert [ask(connection) for connection in (connections[0], *connections[2:])] == [200] * (
                ROOM - 1
            )


def test_without_an_idle_one_the_oldest_without_a_whole_head_makes_room(address: Address) -> None:
    with several(address, ROOM) as connections:
        for connection in connections[1:-1]:
            connection.send(BODY)  # their requests have begun
        connections[0].send(b"GET /li")
        time.sleep(0.2)
        with connected(address) as another:
            assert ask(another) == 200
            assert connections[0].is_closed_by_peer()
            for connection in connections[1:-1]:
                connection.send(b"not a one")
                assert connection.reply().status == 422
            assert ask(connections[-1]) == 200


def test_where_all_have_requests_under_way_a_stranger_is_told_so(
    server: RunningServer, address: Address
) -> None:
    with several(address, ROOM) as connections:
        for connection in connections:
            connection.send(BODY)
        time.sleep(0.2)
        for _ in range(100):  # more than are refused with patience
            with connected(address) as another:
                another.send(GET + b"\r\n")
                reply = another.reply()
                assert (reply.status, reply.code) == (503, "overloaded")
                assert reply.headers["retry-after"] and reply.headers["connection"] == "close"
        for connection in connections:
            connection.send(b"not a one")
            assert connection.reply().status == 422


def test_a_crowd_leaves_no_descriptor_behind(server: RunningServer, address: Address) -> None:
    with connected(address) as connection:
        assert ask(connection) == 200
    before = descriptors(server)
    with several(address, 300):
        time.sleep(0.2)
        assert descriptors(server) <= before + ROOM + 80
    deadline = time.monotonic() + 10
    while descriptors(server) > before:
        assert time.monotonic() < deadline, f"{before} before, {descriptors(server)} now"
        time.sleep(0.05)


def test_with_few_descriptors_there_is_room_for_few_and_they_are_served() -> None:
    wrapper = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
    with running_server(wrapper=wrapper) as server, several(address_of(server), 400):
        with connected(address_of(server)) as connection:
            assert ask(connection) == 200
        assert descriptors(server) < 256
        assert "Too many open files" not in server.log.read_text()
