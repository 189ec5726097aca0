"""Over HTTP, with fake models; the real ones and the client's synchronous half are in tests/test_openai_client.py."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from server.fetch import Fetcher
from tests.server.conftest import Running, serving, until
from tests.server.images import encode, scene
from tests.server.origin import response, running_origin

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())
DATA_URL = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
SAID = {"answer": "two red cats", "tokens": {"prompt": 5, "written": 4}, "is_cut": False}
CAPTION = {"caption": "a photo of a cat", "tokens": {"prompt": 3, "written": 3}, "is_cut": True}
MODELS = {
    "echo": {},
    "ask": {"task": "vqa", "resize": "square_bicubic", "loads_at_start": True},
    "describe": {"task": "caption", "resize": "square_bicubic"},
    "unknown": {"task": "vqa", "resize": "square_bicubic", "task_unknown": True},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving(MODELS) as one:
        yield one


def about(text: str, address: str = DATA_URL, model: str = "ask", **fields: Any) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": address}}
    messages = [{"role": "user", "content": [{"type": "text", "text": text}, image]}]
    return {"model": model, "messages": messages, **fields}


async def ask(running: Running, body: Any, **options: Any) -> httpx.Response:
    return await running.client.post("/v1/chat/completions", json=body, **options)


def error_of(reply: httpx.Response) -> tuple[int, str, str | None]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and "secret" not in reply.text
    return reply.status_code, error["code"], error["param"]


async def test_an_answer_and_a_caption_are_the_workers(running: Running) -> None:
    reply = await ask(running, about(f"say {json.dumps(SAID)}"))
    assert reply.status_code == 200
    whole = reply.json()
    assert whole["choices"][0]["message"]["content"] == "two red cats"
    assert whole["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert whole["id"] == f"chatcmpl-{reply.headers['x-request-id']}"
    assert (
        "infer;dur=" in reply.headers["server-timing"] and 'batch;desc="1"' in reply.headers["server-timing"]
    )
    caption = (await ask(running, about(f"say {json.dumps(CAPTION)}", model="describe"))).json()
    assert caption["choices"][0]["message"]["content"] == "a photo of a cat"
    assert caption["choices"][0]["finish_reason"] == "length"


async def test_a_stream_is_sent_as_events(running: Running) -> None:
    reply = await ask(running, about(f"say {json.dumps(SAID)}", stream=True))
    assert reply.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache" and reply.text.endswith("data: [DONE]\n\n")
    assert reply.text.count("data: ") == 1 + 3 + 1 + 1, "role, words, end, end of all"


async def test_the_client_asks_about_an_image_by_its_address(running: Running) -> None:
    async with running_origin() as origin:
        origin.answers["/a.png"] = response(IMAGE)
        running.engine._fetcher = Fetcher(1_000_000, 64, origin.backend())
        body = about(f"say {json.dumps(SAID)}", "http://images.example/a.png")
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none", max_retries=0
        ) as client:
            completion = await client.chat.completions.create(**body)
        await running.engine._fetcher.close()
        assert len(origin.hits) == 1
    assert completion.choices[0].message.content == "two red cats"


@pytest.mark.parametrize("stream", [False, True])
async def test_whatever_goes_wrong_has_its_status_before_a_stream_begins(
    running: Running, stream: bool
) -> None:
    for text, expected in [
        ("raise", (500, "internal", None)), ("refuse image_unprocessable", (422, "image_unprocessable", None)),
        ("refuse invalid_parameter", (400, "invalid_parameter", "messages")), ("x" * 1001, (400, "invalid_parameter", "messages")),
        ("\x00", (400, "invalid_parameter", "messages")), ("say []", (500, "internal", None)),
    ]:  # fmt: skip
        assert error_of(await ask(running, about(text, stream=stream))) == expected, text
    for address, code in [
        ("http://127.0.0.1/a.png", "image_url_not_allowed"), ("data:image/png;base64,", "empty_body"),
        *((f"data:image/png;base64,{text}", "invalid_base64") for text in ("!", "\x00", "AAA", "data:image/png;base64," * 1000)),
        ("data:image/png;base64,AAAA", "image_undecodable"),
    ]:  # fmt: skip
        assert error_of(await ask(running, about("x", address, stream=stream)))[1] == code, address


async def test_a_request_that_is_none_for_a_chat_is_refused(running: Running) -> None:
    assert error_of(await ask(running, about("x", model="nope"))) == (404, "model_not_found", None)
    assert error_of(await ask(running, about("x", model="echo"))) == (400, "not_a_chat_model", None)
    text = {"model": "ask", "messages": [{"role": "user", "content": "hello"}]}
    assert error_of(await ask(running, text)) == (400, "image_required", None)
    image = {"type": "image_url", "image_url": {"url": DATA_URL}}
    two = {"model": "ask", "messages": [{"role": "user", "content": [image, image]}]}
    assert error_of(await ask(running, two)) == (400, "several_images", None)
    assert error_of(await ask(running, about("x", n=2))) == (400, "not_supported", "n")
    assert error_of(await ask(running, about("x", best_of=2))) == (400, "unknown_field", "best_of")
    other = await running.client.post("/v1/chat/completions", data={"model": "ask"})
    assert error_of(other) == (415, "unsupported_media_type", None)
    assert error_of(await running.client.get("/v1/chat/completions")) == (405, "method_not_allowed", None)
    assert error_of(await running.client.get("/v1/models/nope")) == (404, "model_not_found", None)
    assert error_of(await running.client.get("/v1/models/echo")) == (400, "not_a_chat_model", None)


async def test_a_model_whose_task_its_weights_know_is_listed_once_they_told(running: Running) -> None:
    async def listed() -> set[str]:
        return {model["id"] for model in (await running.client.get("/v1/models")).json()["data"]}

    assert await listed() == {"ask", "describe"}
    reply = await running.client.post("/models/unknown/load")
    assert reply.status_code in (200, 202)
    await until(lambda: running.engine.registry.models["unknown"].is_ready)
    assert await listed() == {"ask", "describe", "unknown"}
    shown = (await running.client.get("/v1/models/unknown")).json()
    assert set(shown) == {"id", "object", "created", "owned_by"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_while_waiting_leaves_nothing_behind(
    running: Running, tmp_path: Path, stream: bool
) -> None:
    pool, marker = running.pool("ask"), tmp_path / "go"
    busy = asyncio.create_task(running.infer(IMAGE, "ask", prompt=f"wait {marker}"))
    await until(lambda: pool.snapshot()["in_flight"] == 1)
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = json.dumps(about("queued", stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await until(lambda: pool.snapshot()["queue_length"] == 1)
    writer.transport.abort()
    await until(lambda: pool.snapshot()["queue_length"] == 0)
    marker.touch()
    assert (await busy).status_code == 200
    await until(lambda: pool.is_idle and running.engine.budget.num_bytes == 0)


async def test_a_client_that_leaves_in_the_middle_of_a_stream_leaves_nothing_behind(running: Running) -> None:
    said = json.dumps({**SAID, "answer": "word " * 150})
    body = json.dumps(about(f"say {said}", stream=True)).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    assert (await asyncio.wait_for(reader.readline(), 20)).split()[1] == b"200"
    writer.transport.abort()
    await until(lambda: running.pool("ask").is_idle and running.engine.budget.num_bytes == 0)
    assert (await ask(running, about(f"say {json.dumps(SAID)}"))).status_code == 200
