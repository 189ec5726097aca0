"""A client that is slow at sending or taking, or that never begins, is gone at its deadline; others do not notice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.hostile.raw import RawConnection, RawReply, connected
from tests.hostile.target import SAMPLE
from tests.serving import RunningServer, running_server

HEADER_TIMEOUT, RECEIVE_TIMEOUT, SEND_TIMEOUT = 1.0, 2.0, 1.0
SLACK = 1.5
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
KNOWN = b"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"

Address = tuple[str, int]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """With deadlines that a test can wait for."""
    environment = {
        "ENGINE_HEADER_TIMEOUT": str(HEADER_TIMEOUT),
        "ENGINE_RECEIVE_TIMEOUT": str(RECEIVE_TIMEOUT),
        "ENGINE_SEND_TIMEOUT": str(SEND_TIMEOUT),
    }
    with running_server(environment=environment) as running:
        yield running


@pytest.fixture
def address(server: RunningServer) -> Iterator[Address]:
    """Where it listens; after the test it must serve."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None and parts.port is not None
    yield parts.hostname, parts.port
    assert server.get("/livez") == {"status": "live"}


def drip(connection: RawConnection, content: bytes, pause: float = 0.05) -> None:
    """A byte at a time, until the peer takes no more."""
    for byte in content:
        if not connection.send(bytes([byte])):
            return
        time.sleep(pause)


UNENDED = [  # what is sent at once, what is dripped after it, and the time until the refusal
    (b"", b"", HEADER_TIMEOUT),
    (b"GET", b"", HEADER_TIMEOUT),
    (b"", b"\r\n" * 50, HEADER_TIMEOUT),
    (b"", GET + b"a: " + b"b" * 100, HEADER_TIMEOUT),
    (GET + b"a: b\r\n", b"c: d\r\n" * 50, HEADER_TIMEOUT),
    (POST + b"Content-Length: 1000\r\n\r\n", b"", RECEIVE_TIMEOUT),
    (POST + b"Content-Length: 1000\r\n\r\n", bytes(100), RECEIVE_TIMEOUT),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 20, RECEIVE_TIMEOUT),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"", RECEIVE_TIMEOUT),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"a: b\r\n" * 20, RECEIVE_TIMEOUT),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a" * 100, RECEIVE_TIMEOUT),
]


def unended(address: Address, first: bytes, dripped: bytes, before: bytes) -> tuple[list[RawReply], float]:
    """The replies, and the seconds from the request's first byte to the connection's end."""
    with connected(address) as connection:
        if before:
            connection.send(before)
            assert connection.reply().status == 200
        started = time.monotonic()
        connection.send(first)
        sender = threading.Thread(target=drip, args=(connection, dripped))
        sender.start()
        replies = connection.replies()
        taken = time.monotonic() - started
        sender.join()
    return replies, taken


def test_requests_that_do_not_end_are_refused_at_their_deadlines(address: Address) -> None:
    cases = [(*case, before) for case in UNENDED for before in (b"", GET + b"\r\n")]
    cases.remove((b"", b"", HEADER_TIMEOUT, GET + b"\r\n"))  # between requests silence may last much longer
    with ThreadPoolExecutor(len(cases)) as threads:
        running = [
            threads.submit(unended, address, first, dripped, before) for first, dripped, _, before in cases
        ]
    for (first, dripped, timeout, before), future in zip(cases, running, strict=True):
        replies, taken = future.result()
        case = (first, dripped, before)
        assert [(reply.status, reply.code) for reply in replies] == [(408, "request_timeout")], case
        assert replies[0].headers["connection"] == "close"
        assert timeout - 0.1 <= taken < timeout + SLACK, case


def test_the_deadline_of_a_request_begins_with_it_and_not_with_its_connection(address: Address) -> None:
    with connected(address) as connection:
        for _ in range(4):
            connection.send(GET)
            time.sleep(HEADER_TIMEOUT / 2)
            connection.send(b"\r\n")
            assert connection.reply().status == 200
            time.sleep(HEADER_TIMEOUT / 4)


def test_a_deadline_that_was_met_says_nothing_about_the_next_request(address: Address) -> None:
    image = SAMPLE.read_bytes()
    with connected(address) as connection:
        connection.send(POST + b"Content-Length: %d\r\n\r\n" % len(image) + image[:10])
        time.sleep(HEADER_TIMEOUT * 1.2)  # beyond that of the headers, which are here
        connection.send(image[10:])
        assert connection.reply().status == 200
        started = time.monotonic()
        connection.send(b"GET")
        assert connection.reply().status == 408
        assert HEADER_TIMEOUT - 0.1 <= time.monotonic() - started < HEADER_TIMEOUT + SLACK


def test_the_rest_of_a_body_that_was_refused_early_has_the_same_deadline(address: Address) -> None:
    with connected(address) as connection:
        started = time.monotonic()
        connection.send(KNOWN)
        statuses = [reply.status for reply in connection.replies()]
        assert statuses == [404], "no second reply to one request"
        assert time.monotonic() - started < RECEIVE_TIMEOUT + SLACK


def test_an_unfinished_request_behind_one_that_is_answered_costs_it_nothing(address: Address) -> None:
    with connected(address) as connection:
        connection.send(GET + b"\r\n" + GET + b"\r\nGET /li")
        assert [reply.status for reply in connection.replies()] == [200, 200, 408]


def test_a_silent_connection_leaves_no_line_in_the_log(server: RunningServer, address: Address) -> None:
    size = server.log.stat().st_size
    with connected(address) as connection:
        assert connection.reply().status == 408
    assert '"status":408' not in server.log.read_text()[size:]


def stalled(server: RunningServer) -> int:
    """How many clients were given up because they took nothing."""
    with connected((urlsplit(server.url).hostname or "", urlsplit(server.url).port or 0)) as connection:
        connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        page = connection.reply().body.decode()
    prefix = 'engine_connections_closed_total{reason="stalled"} '
    return round(
        sum(float(line.removeprefix(prefix)) for line in page.splitlines() if line.startswith(prefix))
    )


def test_a_client_that_takes_nothing_of_its_replies_is_given_up(
    server: RunningServer, address: Address
) -> None:
    before = stalled(server)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(address)
        deadline = time.monotonic() + 30
        while stalled(server) == before:  # each round fills the kernel's buffers a little more, then ours
            assert time.monotonic() < deadline, "it was not given up"
            try:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 16)
            except OSError:
                break
            time.sleep(0.02)
        client.settimeout(10)
        with pytest.raises(OSError):  # reset: it has to be told somehow
            while client.recv(65536):
                pass
            raise ConnectionResetError
    assert stalled(server) == before + 1
