"""What all the other tests here rely on."""

from __future__ import annotations

from tests.hostile.raw import exchange
from tests.hostile.target import Target


def test_a_raw_request_is_answered_like_any_other(target: Target) -> None:
    reply = exchange(target.address, b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.status == 200 and reply.body == b'{"status":"live"}'
