"""`POST /inference/batch` over real sockets: every image is answered in its place, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio

from pool import Limits
from server.reply_schemas import ListReply
from tests.server.conftest import MODELS, Running, error_of, serving, until
from tests.server.images import encode, noise, png, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())
BASE64 = base64.b64encode(IMAGE).decode()
GOOD = {"image_base64": BASE64}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving(MODELS, max_listed_images=12, max_listed_at_once=4) as running:
        yield running


async def ask(running: Running, images: Any, **fields: Any) -> httpx.Response:
    body = orjson.dumps({"images": images, **fields})
    return await running.client.post(
        "/inference/batch", content=body, headers={"content-type": "application/json"}
    )


def outcomes(reply: httpx.Response) -> list[str]:
    """The model that answered, or the error's code."""
    assert reply.status_code == 200, reply.text
    ListReply.model_validate(reply.json())
    return [one["error"]["code"] if "error" in one else one["model_id"] for one in reply.json()["results"]]


async def test_results_are_in_the_order_of_the_images(running: Running) -> None:
    pictures = [encode(noise(20 + place, 20)) for place in range(9)]
    reply = await ask(
        running, [{"image_base64": base64.b64encode(one).decode()} for one in pictures], model_id="echo"
    )
    assert outcomes(reply) == ["echo"] * 9
    alone = [(await running.infer(one)).json()["crc"] for one in pictures]
    assert [one["crc"] for one in reply.json()["results"]] == alone
    assert len(set(alone)) == 9
    assert {one["request_id"] for one in reply.json()["results"]} == {reply.headers["x-request-id"]}


async def test_what_an_image_says_goes_before_what_is_said_for_all(running: Running) -> None:
    reply = await ask(
        running,
        [GOOD, {**GOOD, "prompts": ["one", "two"]}, {**GOOD, "prompt": "own"}, {**GOOD, "model_id": "echo", "prompt": None}],
        model_id="ask", prompt="for all", parameters={"num_beams": 2},
    )  # fmt: skip
    first, several, own, other = reply.json()["results"]
    assert (first["params"]["prompt"], first["params"]["num_beams"]) == ("for all", 2)
    assert several["params"]["prompts"] == ["one", "two"] and "prompt" not in several["params"]
    assert own["params"]["prompt"] == "own"
    assert other["error"]["code"] == "invalid_parameter", "a detector has no prompt, and no beams"


async def test_a_form_brings_several_files(running: Running) -> None:
    files = [(name, (name, IMAGE)) for name in ("image", "images", "images", "file")]
    data = {"model_id": "echo", "confidence": "0.5"}
    reply = await running.client.post("/inference/batch", data=data, files=[*files, ("images", b"")])
    assert outcomes(reply) == ["echo"] * 4 + ["empty_body"]
    assert reply.json()["results"][3]["params"]["confidence"] == 0.5


async def test_one_that_fails_fails_alone(running: Running) -> None:
    broken = base64.b64encode(IMAGE[: len(IMAGE) // 2]).decode()
    bomb = base64.b64encode(png(30_000, 30_000)).decode()
    images = [
        GOOD, {"image_base64": "%"}, {"image_base64": broken}, {"image_base64": bomb}, {**GOOD, "image_url": "http://a/"},
        {}, 7, {**GOOD, "nope": 1}, {**GOOD, "model_id": "nope"}, {**GOOD, "parameters": {"confidence": 7}},
        {"image_url": "http://127.0.0.1/"}, GOOD,
    ]  # fmt: skip
    reply = await ask(running, images, model_id="echo")
    assert outcomes(reply) == [
        "echo", "invalid_base64", "image_undecodable", "image_too_large", "exactly_one_image_source",
        "exactly_one_image_source", "invalid_request", "unknown_field", "model_not_found", "invalid_parameter",
        "image_url_not_allowed", "echo",
    ]  # fmt: skip
    assert all("request_id" in one["error"] for one in reply.json()["results"] if "error" in one)


@pytest.mark.parametrize(("fields", "code"), [
    ({"images": []}, "invalid_parameter"), ({}, "invalid_parameter"), ({"images": GOOD}, "invalid_parameter"),
    ({"images": [GOOD] * 13}, "invalid_parameter"), ({"images": [{}] * 10_000}, "invalid_parameter"),
    ({"images": [GOOD], "image_base64": BASE64}, "unknown_field"), ({"images": [GOOD], "model_id": 7}, "invalid_parameter"),
    ([], "invalid_request"), ({"images": [[] for _ in range(200_000)]}, "invalid_request"),
])  # fmt: skip
async def test_a_list_that_is_none_is_refused_as_a_whole(running: Running, fields: Any, code: str) -> None:
    content = orjson.dumps(fields)
    headers = {"content-type": "application/json"}
    reply = await running.client.post("/inference/batch", content=content, headers=headers)
    assert (reply.status_code, error_of(reply)) == (400, code)


async def test_a_form_with_too_many_files_is_refused_and_a_raw_image_is_no_list(running: Running) -> None:
    files = [("images", ("a", b"x"))] * 13
    reply = await running.client.post("/inference/batch", data={"model_id": "echo"}, files=files)
    assert (reply.status_code, error_of(reply)) == (400, "invalid_parameter")
    reply = await running.client.post(
        "/inference/batch?model_id=echo", content=IMAGE, headers={"content-type": "image/png"}
    )
    assert (reply.status_code, error_of(reply)) == (415, "unsupported_media_type")


async def test_an_image_that_kills_its_worker_takes_no_other_with_it(
    running: Running,
) -> None:
    images = [{**GOOD, "prompt": "a"}, {**GOOD, "prompt": "die"}, {**GOOD, "prompt": "b"}]
    reply = await ask(running, images, model_id="ask")
    assert outcomes(reply) == ["ask", "image_unprocessable", "ask"]


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(running: Running) -> None:
    async with serving({"echo": {"loads_at_start": True}}, max_list_bytes=4096) as small:
        reply = await ask(small, [{"image_base64": "a" * 5000}], model_id="echo")
        assert (reply.status_code, error_of(reply)) == (413, "body_too_large")


async def test_a_list_waits_for_room_and_leaves_some_to_others(running: Running) -> None:
    limits = Limits(max_batch_size=1, max_queue_size=2)
    async with serving(MODELS, limits, max_listed_at_once=8) as tight:
        images = [{**GOOD, "prompt": "sleep 0.02"}] * 20
        assert outcomes(await ask(tight, images, model_id="ask")) == ["ask"] * 20
    peak = 0
    async with serving(MODELS, Limits(max_batch_size=1), max_listed_at_once=3) as polite:
        task = asyncio.create_task(ask(polite, [{**GOOD, "prompt": "sleep 0.03"}] * 12, model_id="ask"))
        while not task.done():
            pool = polite.engine.registry.models["ask"].pool
            if pool is not None:
                snapshot = pool.snapshot()
                peak = max(peak, snapshot["in_flight"] + snapshot["queue_length"])
            await asyncio.sleep(0.002)
        assert outcomes(task.result()) == ["ask"] * 12
    assert 1 < peak <= 3


async def test_the_deadline_is_of_all_together() -> None:
    async with serving(
        {"ask": {**MODELS["ask"], "loads_at_start": True}}, deadline=0.8, max_listed_at_once=1
    ) as slow:
        started = time.monotonic()
        reply = await ask(slow, [{**GOOD, "prompt": "sleep 0.3"}] * 5, model_id="ask")
        assert time.monotonic() - started < 3
        codes = outcomes(reply)
        assert codes[0] == "ask" and set(codes[2:]) <= {"deadline_exceeded", "queue_full"}, codes


async def test_who_leaves_has_everything_cancelled(running: Running) -> None:
    pool = running.pool("ask")
    images = [{**GOOD, "prompt": "sleep 1.2"}] * 4 + [{**GOOD, "prompt": "sleep 1.2"}] * 8
    with pytest.raises(httpx.ReadTimeout):
        body = orjson.dumps({"images": images, "model_id": "ask"})
        headers = {"content-type": "application/json"}
        await running.client.post("/inference/batch", content=body, headers=headers, timeout=0.4)
    await until(
        lambda: running.engine.budget.num_bytes == 0 and running.engine.registry.models["ask"].num_users == 0
    )
    assert pool.snapshot()["queue_length"] == 0
    await until(lambda: pool.is_idle)


async def test_a_list_counts_as_as_many_requests_as_it_has_images() -> None:
    async with serving({"echo": {"loads_at_start": True}}, rate_limit=0.5, rate_limit_burst=4) as limited:
        assert outcomes(await ask(limited, [GOOD] * 6, model_id="echo")) == ["echo"] * 6
        reply = await limited.infer(IMAGE)
        assert (reply.status_code, error_of(reply)) == (429, "rate_limited")
        assert int(reply.headers["retry-after"]) >= 5


async def test_a_list_is_one_line_in_the_log_and_its_images_are_counted(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    registry = running.engine.metrics.registry
    labels = {"model_id": "echo", "code": "invalid_base64"}
    before = registry.get_sample_value("engine_listed_images_total", labels) or 0
    with caplog.at_level("INFO", "server.access"):
        await ask(running, [GOOD, {"image_base64": "%"}, GOOD], model_id="echo")
    (record,) = [vars(record) for record in caplog.records if record.name == "server.access"]
    assert (record["num_images"], record["num_failed"], record["model_id"], record["status"]) == (
        3,
        1,
        "echo",
        200,
    )
    assert registry.get_sample_value("engine_listed_images_total", labels) == before + 1
