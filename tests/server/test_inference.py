"""`POST /inference` over real sockets. One server for all tests that do not need their own."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import pytest_asyncio

from pool import Pool
from server.decode import ImageLimits
from server.decoder_pool import DecoderPool
from server.resize import letterbox
from tests.server.conftest import MODELS, Running, error_of, serving, until
from tests.server.images import Pixels, encode, noise, png, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())
BASE64 = base64.b64encode(IMAGE).decode()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving({**MODELS, "unknown-task": {"task_unknown": True}}) as running:
        yield running


def crc(picture: Pixels) -> int:
    slot: Pixels = np.zeros((32, 32, 3), np.uint8)
    letterbox(picture, slot)
    return zlib.crc32(slot.tobytes())


async def post_json(running: Running, fields: Any) -> httpx.Response:
    body = fields if isinstance(fields, bytes) else orjson.dumps(fields)
    return await running.client.post("/inference", content=body, headers={"content-type": "application/json"})


async def test_the_three_ways_in_bring_the_same_answer(running: Running) -> None:
    options = {"confidence": 0.5, "classes": [0, 1]}
    answers = [
        await post_json(running, {"model_id": "echo", "image_base64": BASE64, "parameters": options}),
        await running.infer(IMAGE, confidence="0.5", classes="0,1"),
        await running.client.post(
            "/inference", data={"model_id": "echo", "confidence": "0.5", "classes": "0,1"}, files={"image": ("a.png", IMAGE)}
        ),
        await running.client.post(
            "/inference", params={"model_id": "echo", "classes": "0,1"}, data={"confidence": "0.5"}, files={"file": IMAGE}
        ),
    ]  # fmt: skip
    params = {
        "width": 96,
        "height": 64,
        "confidence": 0.5,
        "iou": 0.7,
        "max_detections": 300,
        "classes": [0, 1],
    }
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        body = answer.json()
        assert (body["model_id"], body["task"], body["image"]) == (
            "echo",
            "detect",
            {"width": 96, "height": 64},
        )
        assert body["crc"] == crc(scene())
        assert body["params"] == params
        assert set(body["timings_ms"]) == {"fetch", "decode", "queue", "infer", "post", "draw", "total"}
        assert body["timings_ms"]["total"] >= body["timings_ms"]["infer"] > 0
        assert body["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["server-timing"].endswith('batch;desc="1"')


async def test_every_one_of_many_is_answered_for_its_own_picture(running: Running) -> None:
    pictures = [noise(40 + i % 7, 30 + i % 5, seed=i) for i in range(60)]
    answers = await asyncio.gather(*(running.infer(encode(picture)) for picture in pictures))
    assert [answer.json()["crc"] for answer in answers] == [crc(picture) for picture in pictures]


async def test_a_question_reaches_the_model(running: Running) -> None:
    answer = await post_json(running, {
        "model_id": "ask", "prompt": "what colour?", "image_base64": BASE64, "parameters": {"num_beams": 3},
    })  # fmt: skip
    assert answer.status_code == 200, answer.text
    params = answer.json()["params"]
    assert re.fullmatch("[0-9a-f]{64}", params.pop("image_key"))
    assert params == {
        "width": 96,
        "height": 64,
        "prompt": "what colour?",
        "max_new_tokens": 20,
        "num_beams": 3,
    }


async def test_a_list_of_questions_reaches_the_model_whichever_way_it_comes(running: Running) -> None:
    prompts = ["what, colour?", "", "é?"]
    url, query = "/inference", {"model_id": "ask", "prompts": prompts}
    answers = [
        await post_json(running, {"model_id": "ask", "prompts": prompts, "image_base64": BASE64}),
        await running.infer(IMAGE, "ask", prompts=prompts),
        await running.client.post(url, data={"model_id": "ask", "prompts": prompts}, files={"image": IMAGE}),
        await running.client.post(url, params=query, files={"image": IMAGE}),
    ]
    found = [answer.json()["params"] for answer in answers]
    assert found[0]["prompts"] == prompts and "prompt" not in found[0]
    assert found == [found[0]] * 4


async def test_one_image_with_many_questions_counts_as_many_rows(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    infer = Pool.infer

    async def note(self: Pool, *arguments: Any, **options: Any) -> Any:
        asked.append(options)
        return await infer(self, *arguments, **options)

    monkeypatch.setattr(Pool, "infer", note)
    key = (await running.infer(IMAGE, "ask", prompts=["a"] * 5)).json()["params"]["image_key"]
    await running.infer(IMAGE, "ask")
    await running.infer(IMAGE, "echo")
    assert [each["cost"] for each in asked] == [5, 1, 1]
    assert [each["affinity"] for each in asked] == [key, key, ""]


@pytest.mark.parametrize(("options", "name"), [
    ({"prompts": ["a"], "prompt": "b"}, "prompts"), ({"prompts": ["a"] * 33}, "prompts"), ({"prompts": ["a" * 1001]}, "prompts"),
    ({"prompts": ["a"] * 7, "num_beams": 5}, "prompts"), ({"prompts": ["a", "b\x00"]}, "prompts"), ({"prompt": ["a", "b"]}, "query"),
])  # fmt: skip
async def test_prompts_that_cannot_be_are_refused(
    running: Running, options: dict[str, Any], name: str
) -> None:
    answer = await running.infer(IMAGE, "ask", **options)
    assert (answer.status_code, error_of(answer)) == (400, "invalid_parameter")
    assert f" {name} " in answer.json()["error"]["message"]


async def test_prompts_are_not_for_boxes_and_not_twice(running: Running) -> None:
    assert error_of(await running.infer(IMAGE, "echo", prompts=["a"])) == "invalid_parameter"
    twice = await running.client.post(
        "/inference",
        params={"prompts": "a"},
        data={"model_id": "ask", "prompts": "b"},
        files={"image": IMAGE},
    )
    assert error_of(twice) == "invalid_parameter"
    beside = await running.client.post(
        "/inference", params={"prompts": "a"}, json={"model_id": "ask", "image_base64": BASE64}
    )
    assert error_of(beside) == "unknown_field"


async def test_a_model_tells_its_task_where_nobody_else_knows(running: Running) -> None:
    assert error_of(await running.infer(IMAGE, "unknown-task", num_beams="2")) == "invalid_parameter"
    assert (await running.infer(IMAGE, "unknown-task", confidence="0.1")).status_code == 200


@pytest.mark.parametrize(("fields", "status", "code"), [
    (b"{", 400, "invalid_json"), (b"[]", 400, "invalid_request"), (b"", 400, "empty_body"), (IMAGE, 400, "invalid_json"),
    ({"model_id": "echo"}, 400, "exactly_one_image_source"),
    ({"model_id": "echo", "image_base64": "A", "image_url": "x"}, 400, "exactly_one_image_source"),
    ({"model_id": "echo", "image_base64": "A"}, 400, "invalid_base64"), ({"model_id": "echo", "image_base64": ""}, 400, "empty_body"),
    ({"model_id": "echo", "image_base64": "AAAA"}, 422, "image_undecodable"),
    ({"model_id": "echo", "image_base64": base64.b64encode(b"%PDF-1.4").decode()}, 415, "unsupported_image_format"),
    ({"model_id": "echo", "image_base64": base64.b64encode(png(50_000, 50_000)).decode()}, 422, "image_too_large"),
    ({"model_id": "echo", "image_base64": BASE64, "foo": 1}, 400, "unknown_field"),
    ({"model_id": "echo", "image_base64": BASE64, "parameters": {"foo": 1}}, 400, "unknown_field"),
    ({"model_id": "echo", "image_base64": BASE64, "parameters": {"confidence": 2}}, 400, "invalid_parameter"),
    ({"model_id": "echo", "image_base64": BASE64, "parameters": {"num_beams": 2}}, 400, "invalid_parameter"),
    ({"model_id": "echo", "image_base64": BASE64, "parameters": {"classes": [2]}}, 400, "invalid_parameter"),
    ({"model_id": "echo", "image_base64": BASE64, "prompt": "what?"}, 400, "invalid_parameter"),
    ({"model_id": 3, "image_base64": BASE64}, 400, "invalid_parameter"),
    ({"model_id": "echo", "image_url": "file:///etc/passwd"}, 400, "invalid_image_url"),
    ({"model_id": "echo", "image_url": "http://127.0.0.1/x.jpg"}, 400, "image_url_not_allowed"),
    ({"model_id": "ask", "prompt": "refuse image_unprocessable", "image_base64": BASE64}, 422, "image_unprocessable"),
    ({"model_id": "ask", "prompt": "refuse out_of_memory", "image_base64": BASE64}, 503, "out_of_memory"),
    ({"model_id": "ask", "prompt": "refuse invalid_parameter", "image_base64": BASE64}, 400, "invalid_parameter"),
    ({"model_id": "ask", "prompt": "refuse something_else", "image_base64": BASE64}, 500, "internal"),
    ({"model_id": "ask", "prompt": "raise", "image_base64": BASE64}, 500, "internal"),
])  # fmt: skip
async def test_a_bad_json_request_has_its_code(running: Running, fields: Any, status: int, code: str) -> None:
    answer = await post_json(running, fields)
    assert (answer.status_code, error_of(answer)) == (status, code)


@pytest.mark.parametrize("model_id", [
    "", " ", "nope", "ECHO", "echo.", "../../etc/passwd", "/abs/x.pt", "file:///x", "https://evil/x.pt", "x" * 10_000, "еcho",
    "echo\x00", "..\\x",
])  # fmt: skip
async def test_a_name_that_is_not_in_the_table_is_never_a_path(running: Running, model_id: str) -> None:
    answer = await post_json(running, {"model_id": model_id, "image_base64": BASE64})
    assert (answer.status_code, error_of(answer)) == (404, "model_not_found")
    if len(model_id) < 1000:
        answer = await running.infer(IMAGE, model_id)
        assert (answer.status_code, error_of(answer)) == (404, "model_not_found")


@pytest.mark.parametrize(("headers", "status", "code"), [
    ({}, 415, "unsupported_media_type"), ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
    ({"content-type": "x" * 5000}, 415, "unsupported_media_type"), ({"content-type": "application/jsonx"}, 415, "unsupported_media_type"),
    ({"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    ({"content-type": "multipart/form-data"}, 400, "invalid_multipart"),
    ({"content-type": "image/png", "content-encoding": "gzip"}, 415, "unsupported_content_encoding"),
    ({"content-type": "application/json", "content-encoding": "br"}, 415, "unsupported_content_encoding"),
    ({"content-type": "application/json"}, 400, "unknown_field"),
])  # fmt: skip
async def test_a_wrong_kind_of_body_has_its_code(
    running: Running, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await running.client.post(
        "/inference", params={"model_id": "echo"}, content=IMAGE, headers=headers
    )
    assert (answer.status_code, error_of(answer)) == (status, code)


@pytest.mark.parametrize(("query", "code"), [
    ("", "invalid_parameter"), ("model_id=echo&model_id=echo", "invalid_parameter"), ("model_id=echo&foo=1", "unknown_field"),
    ("model_id=echo&confidence=x", "invalid_parameter"), ("model_id=echo&confidence=", "invalid_parameter"),
    ("model_id=%ff", "invalid_parameter"), ("model_id=echo&" + "&".join(f"a{i}=1" for i in range(70)), "invalid_parameter"),
    ("model_id=echo&prompt=x", "invalid_parameter"), ("model_id=echo&image_base64=AAAA", "unknown_field"),
])  # fmt: skip
async def test_a_bad_query_has_its_code(running: Running, query: str, code: str) -> None:
    answer = await running.client.post(
        f"/inference?{query}", content=IMAGE, headers={"content-type": "image/png"}
    )
    assert (answer.status_code, error_of(answer)) == (400, code)


async def test_the_content_type_of_an_image_is_a_hint_only(running: Running) -> None:
    for kind in ("image/jpeg", "image/*", "IMAGE/PNG; charset=binary", "image/x-unheard-of"):
        answer = await running.client.post(
            "/inference?model_id=echo", content=IMAGE, headers={"content-type": kind}
        )
        assert answer.status_code == 200, kind


async def test_a_field_given_twice_in_query_and_form_is_refused(running: Running) -> None:
    answer = await running.client.post(
        "/inference?iou=0.5", data={"model_id": "echo", "iou": "0.6"}, files={"image": IMAGE}
    )
    assert error_of(answer) == "invalid_parameter"


async def test_a_fragment_that_is_no_object_is_our_fault_and_stays_here(running: Running) -> None:
    answer = await post_json(running, {"model_id": "ask", "prompt": "say [1]", "image_base64": BASE64})
    assert (answer.status_code, error_of(answer)) == (500, "internal")


async def test_a_death_in_the_middle_loses_nobody(running: Running, tmp_path: Path) -> None:
    await post_json(running, {"model_id": "ask", "prompt": "hello", "image_base64": BASE64})
    marker = tmp_path / "go"
    waiting = asyncio.create_task(
        post_json(running, {"model_id": "ask", "prompt": f"wait {marker}", "image_base64": BASE64})
    )
    await until(lambda: running.pool("ask").snapshot()["in_flight"] == 1)
    pid = running.pool("ask").replicas[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    marker.touch()
    answer = await waiting
    assert answer.status_code == 200, answer.text


async def test_an_image_that_kills_twice_is_unprocessable(running: Running) -> None:
    answer = await post_json(running, {"model_id": "ask", "prompt": "die", "image_base64": BASE64})
    assert (answer.status_code, error_of(answer)) == (422, "image_unprocessable")


async def test_a_client_that_leaves_while_waiting_gives_its_slot_back(
    running: Running, tmp_path: Path
) -> None:
    await post_json(running, {"model_id": "ask", "prompt": "hello", "image_base64": BASE64})
    pool, marker = running.pool("ask"), tmp_path / "go"
    busy = asyncio.create_task(
        post_json(running, {"model_id": "ask", "prompt": f"wait {marker}", "image_base64": BASE64})
    )
    await until(lambda: pool.snapshot()["in_flight"] == 1)
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = orjson.dumps({"model_id": "ask", "prompt": "queued", "image_base64": BASE64})
    head = f"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await until(lambda: pool.snapshot()["queue_length"] == 1)
    writer.transport.abort()
    await until(lambda: pool.snapshot()["queue_length"] == 0)
    slots = pool.snapshot()["slots"]
    assert slots["total"] - slots["free"] == 1
    marker.touch()
    assert (await busy).status_code == 200


@pytest.mark.parametrize("cut", [30, 120, 2000])
async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    running: Running, cut: int
) -> None:
    body = noise(64, 64).tobytes()
    head = f"POST /inference?model_id=echo HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write((head.encode() + body)[:cut])
    await writer.drain()
    writer.transport.abort()
    await until(lambda: running.engine.budget.num_bytes == 0)
    assert (await running.infer(IMAGE)).status_code == 200


async def test_http_1_0_is_answered(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"POST /inference?model_id=echo HTTP/1.0\r\nContent-Type: image/png\r\nContent-Length: {len(IMAGE)}\r\n\r\n"
    writer.write(head.encode() + IMAGE)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.split(b"\r\n")[0].split()[1] == b"200"
    writer.close()


async def test_a_body_in_many_small_chunks_is_one_body(running: Running) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(IMAGE), 7):
            yield IMAGE[at : at + 7]

    answer = await running.client.post(
        "/inference?model_id=echo", content=pieces(), headers={"content-type": "image/png"}
    )
    assert answer.json()["crc"] == crc(scene())


async def test_without_decoders_images_are_refused_and_the_server_is_not_ready() -> None:
    broken = DecoderPool(
        1, ImageLimits(), factory="tests.server.fakes:load"
    )  # a model, which misses its name
    async with serving(decoder=broken) as running:
        assert error_of(await running.infer(IMAGE)) == "decoder_unavailable"
        assert (await running.client.get("/healthz")).status_code == 503
