"""Request ids, the access log, and the last resort."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
import pytest_asyncio
from starlette.types import Message, Receive, Scope, Send

from server import inference
from server.metrics import Metrics
from server.middleware import RequestScope
from tests.server.conftest import Running, error_of, serving
from tests.server.images import encode, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving() as running:
        yield running


@pytest.mark.parametrize("request_id", ["a", "A-b_c.1", "x" * 64])
async def test_a_plain_request_id_is_kept(running: Running, request_id: str) -> None:
    answer = await running.client.get("/livez", headers={"x-request-id": request_id})
    assert answer.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", 'a"b', "é", "a\tb", "a/b", "x" * 4096])
async def test_any_other_request_id_is_replaced(running: Running, request_id: str) -> None:
    answer = await running.client.get("/livez", headers={"x-request-id": request_id.encode()})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_errors_carry_the_request_id_too(running: Running) -> None:
    answer = await running.client.get("/nope", headers={"x-request-id": "mine"})
    assert answer.json()["error"]["request_id"] == "mine"


async def test_every_request_is_one_line_with_what_an_operator_asks_for(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "server.access"):
        await running.infer(IMAGE)
        await running.infer(b"nothing", confidence="0.5")
        await running.client.get("/models/" + "x" * 1000)
        await running.client.get("/livez")  # a probe that is answered says nothing
    lines = [vars(record) for record in caplog.records if record.name == "server.access"]
    assert {line["message"] for line in lines} == {"request"}
    assert [line["status"] for line in lines] == [200, 422, 404]
    assert (lines[0]["model_id"], lines[0]["batch_size"], lines[0]["method"]) == ("echo", 1, "POST")
    assert (lines[1]["error_code"], lines[1]["path"]) == ("image_undecodable", "/inference")
    assert len(lines[2]["path"]) == 256
    assert all(line["duration_ms"] > 0 and line["client"] == "127.0.0.1" for line in lines)


async def test_the_unforeseen_is_a_500_with_an_id_and_the_traceback_stays_in_the_log(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a text with a /secret/path")

    monkeypatch.setattr(inference, "reply_to", broken)
    with caplog.at_level("INFO", "server.access"):
        answer = await running.infer(IMAGE)
    assert (answer.status_code, error_of(answer)) == (500, "internal")
    (failure,) = [vars(record) for record in caplog.records if record.msg == "request failed unexpectedly"]
    assert failure["exc_info"] and failure["request_id"] == answer.headers["x-request-id"]
    monkeypatch.undo()
    assert (await running.infer(IMAGE)).status_code == 200


async def call(app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Scope) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def http_scope() -> Scope:
    return {"type": "http", "method": "GET", "path": "/x", "headers": [], "client": None}


async def test_a_cancelled_request_is_told_that_the_server_stops() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    sent = await call(RequestScope(app, Metrics()), http_scope())
    assert sent[0]["status"] == 503
    assert orjson.loads(sent[1]["body"])["error"]["code"] == "shutting_down"


async def test_what_breaks_after_the_reply_began_is_left_to_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    with pytest.raises(ValueError):
        await call(RequestScope(app, Metrics()), http_scope())


async def test_other_scopes_pass_untouched() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": "lifespan"}
    await call(RequestScope(app, Metrics()), scope)
    assert seen == [scope] and "state" not in scope
