"""What is too much is refused with its own code, can be read by a client that still sends, and is not kept meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.raw import RawReply, connected, exchange
from tests.hostile.target import SAMPLE, Target

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\nHost: x\r\n"
IMAGE = POST + b"Content-Type: image/jpeg\r\n"
CHUNKED = IMAGE + b"Transfer-Encoding: chunked\r\n"
MEBIBYTE = 1 << 20


def refused(target: Target, head: bytes, piece: bytes = b"", num_pieces: int = 0) -> RawReply:
    """Send all of it whatever comes back; the one reply, behind which the connection ends."""
    with connected(target.address) as connection:

        def send() -> None:
            if connection.send(head):
                for _ in range(num_pieces):
                    if not connection.send(piece):
                        break

        sender = threading.Thread(target=send)
        sender.start()
        replies = connection.replies()
        sender.join()
    assert len(replies) == 1
    return replies[0]


@pytest.mark.parametrize(("head", "piece", "num_pieces", "status", "code"), [
    (GET, b"a: " + b"b" * 1000 + b"\r\n", 100_000, 431, "headers_too_large"),  # 100 MB
    (GET + b"a: ", b"b" * 65536, 1600, 431, "headers_too_large"),
    (GET, b"a: b\r\n", 200, 431, "headers_too_large"),
    (GET + b"a: " + b"b" * 33_000 + b"\r\n\r\n", b"", 0, 431, "headers_too_large"),
    (b"", b"\r\n", 100_000, 431, "headers_too_large"),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"", 0, 414, "uri_too_long"),
    (b"GET /livez?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"", 0, 414, "uri_too_long"),
    (b"GET /", b"a" * 65536, 1600, 414, "uri_too_long"),
    (CHUNKED + b"\r\n5\r\nhello\r\n0\r\n", b"a: b\r\n", 200, 431, "headers_too_large"),
    (CHUNKED + b"\r\n5\r\nhello\r\n0\r\na: ", b"b" * 65536, 160, 431, "headers_too_large"),
    (CHUNKED + b"\r\n5;", b"a" * 65536, 160, 431, "headers_too_large"),
    (CHUNKED + b"\r\n", b"0" * 65536, 160, 431, "headers_too_large"),
])  # fmt: skip
def test_framing_without_end_is_refused_while_it_comes(
    target: Target, head: bytes, piece: bytes, num_pieces: int, status: int, code: str
) -> None:
    reply = refused(target, head, piece, num_pieces)
    assert (reply.status, reply.code) == (status, code)


def test_what_is_just_within_the_limits_is_served(target: Target) -> None:
    target_line = b"GET /livez?" + b"a" * (8192 - 7) + b" HTTP/1.1\r\nHost: x\r\n"
    headers = b"a: b\r\n" * 98 + b"b: " + b"c" * 31_000 + b"\r\n"
    assert exchange(target.address, target_line + headers + b"\r\n").status == 200


def test_trailers_never_become_headers(target: Target) -> None:
    trailer = b"\r\n0\r\nX-Request-Id: trailer-1\r\nContent-Encoding: gzip\r\n\r\n"
    with connected(target.address) as connection:
        connection.send(CHUNKED + b"X-Request-Id: head-1\r\n\r\n5\r\nhello" + trailer)
        reply = connection.reply()
    assert (reply.code, reply.headers["x-request-id"]) == ("image_undecodable", "head-1")


@pytest.mark.parametrize("expects", [False, True])
def test_a_declared_excess_is_refused_unread_and_without_a_100(target: Target, expects: bool) -> None:
    head = IMAGE + b"Content-Length: %d\r\n" % 10**12 + b"Expect: 100-continue\r\n" * expects
    reply = refused(target, head + b"\r\n", bytes(65536), 0 if expects else 100)
    assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize(("head", "status"), [
    (POST + b"Content-Type: text/plain\r\n", 415), (POST + b"Content-Encoding: gzip\r\n", 415), (POST, 415),
    (POST.replace(b"shapes-detect", b"nothing") + b"Content-Type: image/jpeg\r\n", 404),
    (POST.replace(b"inference", b"nothing") + b"Content-Type: image/jpeg\r\n", 404),
    (POST.replace(b"POST", b"PUT") + b"Content-Type: image/jpeg\r\n", 405),
])  # fmt: skip
def test_what_is_refused_by_its_head_is_not_told_to_continue(
    target: Target, head: bytes, status: int
) -> None:
    reply = exchange(target.address, head + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert reply.status == status and reply.code


def test_what_will_be_read_is_told_to_continue_once_and_not_in_http_1_0(target: Target) -> None:
    image = SAMPLE.read_bytes()
    head = IMAGE + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(image)
    with connected(target.address) as connection:
        connection.send(head)
        assert connection.reply().status == 100
        connection.send(image)
        assert connection.reply().status == 200
    assert exchange(target.address, head.replace(b"HTTP/1.1", b"HTTP/1.0") + image).status == 200


def test_an_undeclared_excess_is_refused_once_counted_and_the_reply_can_be_read(target: Target) -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    reply = refused(target, CHUNKED + b"\r\n", chunk, 5000)
    assert (reply.status, reply.code) == (413, "body_too_large")


@pytest.mark.parametrize("codings", [
    b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"x-gzip", b"gzip, identity", b"identity, gzip", b"identity,,gzip",
    b"unheard-of", b"identity\r\nContent-Encoding: gzip", b"\r\nContent-Encoding: br",
])  # fmt: skip
def test_compressed_bodies_are_refused_and_never_inflated(target: Target, codings: bytes) -> None:
    reply = exchange(
        target.address, IMAGE + b"Content-Encoding: " + codings + b"\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert (reply.status, reply.code) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize("codings", [b"identity", b"Identity", b"", b"identity, identity"])
def test_a_body_that_says_it_is_not_compressed_is_read(target: Target, codings: bytes) -> None:
    reply = exchange(
        target.address, IMAGE + b"Content-Encoding: " + codings + b"\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert reply.code == "image_undecodable"


def cpu_seconds(pid: int) -> float:
    """Of the front, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of the front."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def probing(target: Target) -> Iterator[list[float]]:
    """A good client beside the test, one request after the other; its times in seconds."""
    times: list[float] = []
    stop = threading.Event()

    def probe() -> None:
        with connected(target.address) as connection:
            while not stop.is_set():
                started = time.monotonic()
                connection.send(GET + b"\r\n")
                assert connection.reply().status == 200
                times.append(time.monotonic() - started)

    thread = threading.Thread(target=probe)
    thread.start()
    yield times
    stop.set()
    thread.join()


def test_a_million_chunks_of_one_byte_cost_little_and_keep_nobody_waiting(
    target: Target, probing: list[float]
) -> None:
    pid = target.server.process.pid
    content = CHUNKED + b"\r\n" + b"1\r\nx\r\n" * 1_000_000 + b"0\r\n\r\n"
    assert exchange(target.address, content).code == "image_undecodable"
    before, cpu, started, num_before = resident_bytes(pid), cpu_seconds(pid), time.monotonic(), len(probing)
    assert exchange(target.address, content).code == "image_undecodable"
    spent, wall = cpu_seconds(pid) - cpu, time.monotonic() - started
    slowest = max(probing[num_before:])
    print(f"{spent:.2f} s of CPU in {wall:.2f} s, RSS {(resident_bytes(pid) - before) / MEBIBYTE:+.1f} MiB")
    print(f"{len(probing) - num_before} other requests meanwhile, slowest {slowest * 1000:.0f} ms")
    assert spent < 3.0, "about 0.6 s where nothing else runs"
    assert resident_bytes(pid) - before < 8 * MEBIBYTE
    assert len(probing) - num_before >= 3 and slowest < wall / 2
