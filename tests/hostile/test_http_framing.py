"""What is not one valid request is refused once, in the one shape, and nothing behind it is taken for another."""

from __future__ import annotations

import random
import time

import pytest

from tests.hostile.framing import SMUGGLED, framing_cases
from tests.hostile.raw import RawReply, connected, exchange
from tests.hostile.target import SAMPLE, Target

NUM_MUTANTS = 400
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


def all_replies(target: Target, content: bytes) -> list[RawReply]:
    """Up to the end of the connection, which the server must make."""
    with connected(target.address) as connection:
        connection.send(content)
        return connection.replies()


def logged(target: Target, text: str) -> list[str]:
    """The lines of the log with that text, once there is one: a reply may be here before its line."""
    deadline = time.monotonic() + 10
    while True:
        lines = [line for line in target.server.log.read_text().splitlines() if text in line]
        if lines:
            return lines
        assert time.monotonic() < deadline, f"no line with {text}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def refused(hostile_server: Target) -> list[tuple[str, list[RawReply]]]:
    return [(name, all_replies(hostile_server, content)) for name, content in framing_cases()]


def test_framing_that_could_be_read_in_two_ways_is_refused_and_nothing_is_smuggled(
    target: Target, refused: list[tuple[str, list[RawReply]]]
) -> None:
    assert len(refused) > 90
    wrong = {
        name: [reply.status for reply in replies]
        for name, replies in refused
        if len(replies) != 1 or replies[0].status not in (400, 415)
    }
    assert not wrong


def test_refusals_have_the_shape_of_every_error(refused: list[tuple[str, list[RawReply]]]) -> None:
    for name, (reply, *_) in refused:
        assert reply.code in ("malformed_request", "unsupported_content_encoding"), name
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["connection"] == "close"
        assert reply.headers["x-request-id"].encode() in reply.body


def test_a_refusal_says_the_id_that_the_client_gave(target: Target) -> None:
    content = GET + b"X-Request-Id: mine-1\r\nA: b\r\nBad : header\r\n\r\n"
    (reply,) = all_replies(target, content)
    assert reply.headers["x-request-id"] == "mine-1" and b'"mine-1"' in reply.body
    (line,) = logged(target, '"mine-1"')
    assert '"status":400' in line and '"error_code":"malformed_request"' in line


def test_a_bad_chunk_is_refused_once_with_one_line_in_the_log(target: Target) -> None:
    head = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with connected(target.address) as connection:
        connection.send(head + b"X-Request-Id: chunk-1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        target.client.get("/livez")  # the request has begun by now
        connection.send(b"zz\r\n")
        (reply,) = connection.replies()
    assert (reply.status, reply.code) == (400, "malformed_request")
    (line,) = logged(target, '"chunk-1"')
    assert '"status":400' in line and '"error_code":"malformed_request"' in line


def test_nothing_is_answered_behind_the_last_request(target: Target) -> None:
    for last in (GET + b"Connection: close\r\n\r\n", b"GET /livez HTTP/1.0\r\n\r\n"):
        replies = all_replies(target, last + SMUGGLED * 3)
        assert [reply.status for reply in replies] == [200]


def test_pipelined_requests_are_answered_in_order_up_to_a_bound(target: Target) -> None:
    paths = [b"/livez", b"/nothing"] * 100
    with connected(target.address) as connection:
        connection.send(b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths))
        statuses = [reply.status for reply in connection.replies()]
    assert 20 <= len(statuses) <= 40
    assert statuses == ([200, 404] * 20)[: len(statuses)]


def test_a_bad_request_behind_good_ones_costs_them_nothing(target: Target) -> None:
    replies = all_replies(target, (GET + b"\r\n") * 3 + b"GARBAGE\r\n\r\n" + SMUGGLED)
    assert [reply.status for reply in replies][:3] == [200] * 3
    assert len(replies) <= 4 and all(reply.status == 400 for reply in replies[3:])


def test_nobody_is_upgraded(target: Target) -> None:
    for protocol in (b"websocket", b"h2c"):
        offer = (
            b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nSec-WebSocket-Key: " + b"a" * 24 + b"\r\n"
        )
        (first, second) = all_replies(target, GET + offer + b"\r\n" + GET + b"Connection: close\r\n\r\n")
        assert (first.status, second.status) == (200, 200), (
            "an offer may be ignored; what follows is HTTP/1.1"
        )
        assert "upgrade" not in first.headers
        reply = exchange(target.address, b"GET /inference HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n")
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        reply = exchange(target.address, b"GET /ws HTTP/1.1\r\nHost: x\r\n" + offer + b"\r\n")
        assert (reply.status, reply.code) == (404, "not_found")
    for method in (b"TRACE", b"PROPFIND", b"OPTIONS", b"DELETE"):
        reply = exchange(target.address, method + b" /inference HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(("path", "status"), [
    (b"/livez", 200), (b"http://evil.example/livez", 200), (b"http://evil.example/livez?a=b", 200), (b"/%6civez", 200),
    (b"//livez", 404), (b"/livez/", 404), (b"/livez;x", 404), (b"/livez%00", 404), (b"/%2e%2e/livez", 404),
    (b"/models/../livez", 404), (b"/LIVEZ", 404), (b"/livez%2f", 404), (b"/%ff", 404), (b"/livez#x", 200), (b"/", 200),
    (b"/livez%20", 404), (b"/./livez", 404), (b"/%252e", 404), (b"//evil.example/livez", 404),
])  # fmt: skip
def test_routes_are_found_by_the_path_alone(target: Target, path: bytes, status: int) -> None:
    for host in (b"x", b"evil.example", b"a/?x=", b"", b"[::1", b"x@y", b"x:99999"):
        reply = exchange(target.address, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert reply.status == status
        assert "location" not in reply.headers and b"evil" not in reply.body


def test_a_client_that_ends_its_side_is_answered(target: Target) -> None:
    image = SAMPLE.read_bytes()
    head = b"POST /inference?model_id=shapes-detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with connected(target.address) as connection:
        connection.send(head + b"Content-Length: %d\r\n\r\n" % len(image) + image)
        connection.socket.shutdown(1)
        (reply,) = connection.replies()
    assert reply.status == 200


def mutant(chance: random.Random, seeds: list[bytes]) -> bytes:
    """A valid request with some bytes changed, moved, doubled or lost."""
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place, size = chance.randrange(len(content) or 1), chance.choice((1, 1, 2, 5, 40))
        match chance.randrange(5):
            case 0:
                content[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del content[place : place + size]
            case 2:
                content[place:place] = content[place : place + size]
            case 3:
                content[place:place] = chance.choice(
                    (b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"0", b"%", b";", b",")
                )
            case 4:
                content[place:place] = chance.choice(seeds)[:size]
    return bytes(content)


SEEDS = [
    GET + b"Accept: */*\r\nUser-Agent: x/1\r\n\r\n",
    (
        b"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n"
        b'{"model_id":"shapes-detect"}'
    ),
    (
        b"POST /inference?model_id=shapes-detect&confidence=0.5 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    ),
    (
        b"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 72\r\n"
        b"Expect: 100-continue\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="model_id"\r\n\r\nx\r\n--b--\r\n       '
    ),
    b"GET /models/shapes-detect?x=%20 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
]


def attack_with_mutants(target: Target, num_mutants: int, seed: int) -> dict[int, int]:
    """How many had which status first; 0: none, the request was not complete and the client left."""
    chance = random.Random(seed)
    counts: dict[int, int] = {}
    for _ in range(num_mutants):
        content = mutant(chance, SEEDS)
        with connected(target.address) as connection:
            connection.send(content)
            connection.socket.shutdown(1)  # else one that waits for the rest would wait for the deadline
            reply = connection.reply()
            if reply.status == 100:
                reply = connection.reply()
        assert reply.status < 500, content
        if reply.status >= 400:
            assert reply.code, content
        counts[reply.status] = counts.get(reply.status, 0) + 1
    return counts


def test_mutants_of_valid_requests_never_break_the_server(target: Target) -> None:
    counts = attack_with_mutants(target, NUM_MUTANTS, seed=1)
    assert counts[200] > 5 and counts[400] > NUM_MUTANTS / 10, counts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_mutants_of_valid_requests_never_break_the_server(target: Target) -> None:
    attack_with_mutants(target, 20_000, seed=2)
