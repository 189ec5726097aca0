"""Errors to clients that are still sending. What a real socket sees of it is in test_admission.py."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from server import replies
from server.errors import RequestFailedError
from server.replies import LINGER_BYTES, ErrorReply

Headers = list[tuple[bytes, bytes]]


async def answer(
    headers: Headers, chunks: list[bytes], *, is_body_read: bool = False
) -> tuple[list[Any], int]:
    """What is sent, and how many pieces of the body were taken before the end."""
    sent: list[Any] = []
    num_taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_taken
        num_taken += 1
        if not chunks:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/inference", "headers": headers}
    scope["state"] = {"is_body_read": is_body_read, "request_id": "id-1"}
    await ErrorReply(RequestFailedError("queue_full", retry_after=2.0), scope)(scope, receive, send)
    assert scope["state"]["error_code"] == "queue_full"
    assert sent[0]["status"] == 503
    assert (b"retry-after", b"2") in sent[0]["headers"]
    body = orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))
    assert set(body["error"]) == {"code", "message", "request_id"}
    assert body["error"]["request_id"] == "id-1"
    return sent, num_taken


def closes(sent: list[Any]) -> bool:
    return (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize(("headers", "is_body_read"), [
    ([], False), ([(b"content-length", b"1000")], False), ([(b"content-length", b"9999999999")], True),
    ([(b"transfer-encoding", b"chunked")], True),
])  # fmt: skip
async def test_a_body_that_is_read_or_small_keeps_the_connection(
    headers: Headers, is_body_read: bool
) -> None:
    sent, num_taken = await answer(headers, [b"x"], is_body_read=is_body_read)
    assert not closes(sent)
    assert num_taken == 0


@pytest.mark.parametrize("headers", [
    [(b"content-length", b"9999999999")], [(b"transfer-encoding", b"chunked")], [(b"content-length", b"5"), (b"expect", b"100-continue")],
])  # fmt: skip
async def test_the_rest_of_a_large_body_is_thrown_away_after_the_reply_and_before_the_end(
    headers: Headers,
) -> None:
    sent, num_taken = await answer(headers, [b"x", b"y", b"z"])
    assert closes(sent)
    assert num_taken == 3
    assert sent[1]["more_body"] and not sent[2].get("more_body")


async def test_no_more_than_the_limit_is_thrown_away() -> None:
    _, num_taken = await answer([(b"transfer-encoding", b"chunked")], [bytes(LINGER_BYTES // 4)] * 10)
    assert num_taken == 4


async def test_a_client_that_stops_sending_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "LINGER_TIMEOUT", 0.0)
    sent, _ = await answer([(b"transfer-encoding", b"chunked")], [b"x"] * 3)
    assert sent[-1] == {"type": "http.response.body", "body": b""}
