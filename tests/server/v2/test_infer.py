"""The protocol over sockets, with fake models: what it says of requests, and that they go the one way."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from pool import Limits
from server.v2 import infer
from tests.server.conftest import MODELS, Running, serving, until
from tests.server.images import encode, noise, scene
from tests.server.test_inference import crc

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())
DAMAGED = b"\x89PNG\r\n\x1a\n" + b"x" * 40


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving({**MODELS, "unknown-task": {"task_unknown": True}}) as running:
        yield running


def elements(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def tensor(
    name: str, raw: bytes, shape: Sequence[int], datatype: str = "BYTES"
) -> tuple[dict[str, Any], bytes]:
    described = {
        "name": name,
        "shape": list(shape),
        "datatype": datatype,
        "parameters": {"binary_data_size": len(raw)},
    }
    return described, raw


def pictures(*images: bytes) -> tuple[dict[str, Any], bytes]:
    return tensor("image", elements(*images), [len(images)])


def prompts(*texts: str) -> tuple[dict[str, Any], bytes]:
    return tensor("prompt", elements(*(text.encode() for text in texts)), [len(texts)])


async def ask(
    running: Running,
    *tensors: tuple[dict[str, Any], bytes],
    model_id: str = "echo",
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    """The JSON with the tensors' bytes behind it; without `outputs` only `json`, which fakes have."""
    fields = {"outputs": [{"name": "json"}], **fields}
    text = json.dumps({"inputs": [described for described, _ in tensors], **fields}).encode()
    length = {"Inference-Header-Content-Length": str(len(text))}
    body = text + b"".join(raw for _, raw in tensors)
    return await running.client.post(
        f"/v2/models/{model_id}/infer", content=body, headers={**length, **(headers or {})}
    )


def answers(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.status_code == 200, reply.text
    (output,) = reply.json()["outputs"]
    assert (output["name"], output["shape"]) == ("json", [len(output["data"])])
    return [json.loads(text) for text in output["data"]]


def error_of(reply: httpx.Response) -> tuple[int, str, str]:
    assert set(reply.json()) == {"error"} and "secret" not in reply.text
    code, _, message = reply.json()["error"].partition(": ")
    return reply.status_code, code, message


async def test_the_answer_is_that_of_the_other_protocol(running: Running) -> None:
    ours = (await running.infer(IMAGE, confidence="0.5")).json()
    for given in (
        await ask(running, pictures(IMAGE), parameters={"confidence": 0.5}, id="x 1"),
        await running.client.post(
            "/v2/models/echo/versions/1/infer",
            json={
                "id": "x 1", "parameters": {"confidence": 0.5}, "outputs": [{"name": "json"}],
                "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(IMAGE).decode()]}],
            },
        ),
    ):  # fmt: skip
        (answer,) = answers(given)
        assert {**answer, "timings_ms": 0, "request_id": 0} == {**ours, "timings_ms": 0, "request_id": 0}
        assert answer["request_id"] == given.headers["x-request-id"]
        assert given.json()["id"] == "x 1"
        assert (given.json()["model_name"], given.json()["model_version"]) == ("echo", "1")


async def test_several_images_are_answered_in_order(running: Running) -> None:
    seeds = range(infer.MAX_AT_ONCE + 3)
    each = [noise(20 + seed, 30, seed) for seed in seeds]
    found = answers(await ask(running, pictures(*map(encode, each))))
    assert [answer["crc"] for answer in found] == [crc(picture) for picture in each]
    running.assert_nothing_is_held()


async def test_pixels_arrive_as_they_are(running: Running) -> None:
    batch = np.stack([noise(31, 17, seed) for seed in range(3)])
    found = answers(await ask(running, tensor("pixels", batch.tobytes(), batch.shape, "UINT8")))
    assert [answer["crc"] for answer in found] == [crc(picture) for picture in batch]
    assert {answer["image"]["width"] for answer in found} == {31}
    running.assert_nothing_is_held()


async def test_every_prompt_is_asked_of_every_image(running: Running) -> None:
    found = answers(await ask(running, pictures(IMAGE, IMAGE), prompts("why?"), model_id="ask"))
    assert [answer["params"]["prompt"] for answer in found] == ["why?"] * 2
    found = answers(await ask(running, pictures(IMAGE), prompts("why?", "how?"), model_id="ask"))
    assert [answer["params"]["prompts"] for answer in found] == [["why?", "how?"]]


async def test_the_first_image_that_fails_is_named_and_fails_the_request(running: Running) -> None:
    reply = await ask(running, pictures(IMAGE, DAMAGED, IMAGE, b"", IMAGE))
    assert error_of(reply) == (422, "image_undecodable", "Image 1: The image is damaged or not an image.")
    reply = await ask(running, pictures(DAMAGED))
    assert error_of(reply) == (422, "image_undecodable", "The image is damaged or not an image.")
    await until(lambda: running.pool("echo").is_idle)
    running.assert_nothing_is_held()


@pytest.mark.parametrize(("fields", "status", "code", "named"), [
    ({"parameters": {"confidence": 2}}, 400, "invalid_parameter", "parameters.confidence"), ({"parameters": {"top": 2}}, 400, "invalid_parameter", "parameters.top"),
    ({"parameters": {"sequence_id": 2}}, 400, "unknown_field", "parameters.sequence_id"), ({"parameters": {"binary_data_output": 1}}, 400, "invalid_parameter", "binary_data_output"),
    ({"outputs": [{"name": "keypoints"}]}, 400, "invalid_tensor", "keypoints"), ({"outputs": [{"name": "json"}] * 2}, 400, "invalid_tensor", "json"),
    ({"outputs": [{"name": "json", "parameters": {"classification": 3}}]}, 400, "invalid_tensor", "json"),
    ({"outputs": [{"name": "json", "parameters": {"shared_memory_region": "r"}}]}, 400, "invalid_tensor", "json"),
    ({"outputs": [{"name": "json", "parameters": {"binary_data": "yes"}}]}, 400, "invalid_tensor", "json"),
    ({"model_id": "nope"}, 404, "model_not_found", ""), ({"headers": {"content-encoding": "gzip"}}, 415, "unsupported_content_encoding", ""),
    ({"headers": {"content-type": "image/png"}}, 415, "unsupported_media_type", ""),
    *(({"headers": {"Inference-Header-Content-Length": length}}, 400, "invalid_parameter", "Inference-Header") for length in ("-1", "x", "9" * 30, "99999", "")),
])  # fmt: skip
async def test_a_wrong_request_is_refused_by_name(
    running: Running, fields: dict[str, Any], status: int, code: str, named: str
) -> None:
    reply = await ask(running, pictures(IMAGE), **fields)
    found = error_of(reply)
    assert found[:2] == (status, code) and named in found[2]
    running.assert_nothing_is_held()


async def test_answers_that_are_too_large_together_are_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer, "MAX_REPLY_BYTES", 1000)
    assert len(answers(await ask(running, pictures(IMAGE)))) == 1
    reply = await ask(running, pictures(*[IMAGE] * 20))
    assert error_of(reply)[:2] == (422, "answer_too_large")
    await until(lambda: running.pool("echo").is_idle)
    running.assert_nothing_is_held()


async def test_a_client_that_leaves_takes_all_its_images_with_it(running: Running) -> None:
    await ask(running, pictures(IMAGE), model_id="ask")  # it is loaded
    with pytest.raises(httpx.ReadTimeout):
        async with httpx.AsyncClient(base_url=running.client.base_url, timeout=0.1) as impatient:
            text, raw = prompts("sleep 0.2")
            image, encoded = pictures(*[IMAGE] * 4)
            body = json.dumps({"inputs": [text, image]}).encode()
            length = {"Inference-Header-Content-Length": str(len(body))}
            await impatient.post("/v2/models/ask/infer", content=body + raw + encoded, headers=length)
    await until(lambda: running.engine.budget.num_bytes == 0 and running.pool("ask").is_idle)
    running.assert_nothing_is_held()


async def test_a_model_whose_task_only_its_weights_know(running: Running) -> None:
    described = (await running.client.get("/v2/models/unknown-task")).json()
    assert [output["name"] for output in described["outputs"]] == ["json"]
    assert error_of(await running.client.get("/v2/models/unknown-task/ready"))[:2] == (
        503,
        "model_unavailable",
    )
    reply = await ask(running, pictures(IMAGE), model_id="unknown-task", outputs=[{"name": "answer"}])
    assert error_of(reply)[:2] == (400, "invalid_tensor"), "found out once it is loaded"
    assert (await running.client.get("/v2/models/unknown-task/ready")).json() == {
        "name": "unknown-task",
        "ready": True,
    }
    described = (await running.client.get("/v2/models/unknown-task")).json()
    assert described["outputs"][0]["name"] == "boxes"


async def test_health_is_ours(running: Running) -> None:
    assert (await running.client.get("/v2/health/live")).json() == {"live": True}
    assert (await running.client.get("/v2/health/ready")).json() == {"ready": True}
    running.engine.is_leaving = True
    try:
        reply = await running.client.get("/v2/health/ready")
    finally:
        running.engine.is_leaving = False
    assert (reply.status_code, reply.json()) == (503, {"ready": False})


async def test_what_there_is_none_of_is_not_found(running: Running) -> None:
    for path in (
        "models/echo/stats",
        "models/echo/config",
        "models/echo/versions/2/infer",
        "systemsharedmemory/status",
        "trace/setting",
        "logging",
    ):
        assert error_of(await running.client.get(f"/v2/{path}"))[:2] == (404, "not_found")
    assert error_of(await running.client.get("/v2/models/nope"))[:2] == (404, "model_not_found")
    assert error_of(await running.client.get("/v2/models/nope/ready"))[:2] == (404, "model_not_found")
    assert error_of(await running.client.get("/v2/models/echo/infer"))[:2] == (405, "method_not_allowed")


async def test_the_repository_loads_and_unloads_and_takes_no_settings(running: Running) -> None:
    async def states() -> dict[str, str]:
        index = (await running.client.post("/v2/repository/index")).json()
        return {entry["name"]: entry["state"] for entry in index}

    path = "/v2/repository/models/label"
    assert (await running.client.post(f"{path}/load", json={"parameters": {}})).status_code == 200
    assert (await states())["label"] == "READY"
    reply = await running.client.post(f"{path}/unload", json={"parameters": {"unload_dependents": False}})
    assert (reply.status_code, (await states())["label"]) == (200, "UNAVAILABLE")
    only_ready = (await running.client.post("/v2/repository/index", json={"ready": True})).json()
    assert "label" not in {entry["name"] for entry in only_ready}
    for content, code in (
        (b'{"parameters": {"config": "{}"}}', "invalid_parameter"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_request"),
        (b"x" * 70_000, "body_too_large"),
    ):
        assert error_of(await running.client.post(f"{path}/load", content=content))[1] == code
    assert error_of(await running.client.post("/v2/repository/models/nope/load"))[:2] == (
        404,
        "model_not_found",
    )


async def test_numbers_as_json_do_not_keep_others_waiting(running: Running) -> None:
    numbers = "7," * (640 * 640 * 3 - 1) + "7"
    body = f'{{"outputs":[{{"name":"json"}}],"inputs":[{{"name":"pixels","datatype":"UINT8","shape":[640,640,3],"data":[{numbers}]}}]}}'
    asked = asyncio.create_task(running.client.post("/v2/models/echo/infer", content=body))
    delays = []
    loop = asyncio.get_running_loop()
    while not asked.done():
        before = loop.time()
        await asyncio.sleep(0.001)
        delays.append(loop.time() - before)
    assert len(answers(await asked)) == 1
    print("longest hold of the loop", max(delays))
    assert max(delays) < 1.0


async def test_every_image_counts_against_the_rate() -> None:
    models = {"echo": MODELS["echo"]}
    async with serving(models, rate_limit=0.5, rate_limit_burst=4) as limited:
        assert len(answers(await ask(limited, pictures(*[IMAGE] * 6)))) == 6
        refused = await ask(limited, pictures(IMAGE))
        assert error_of(refused)[:2] == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) >= 5


async def test_several_images_wait_for_room_in_the_queue_and_a_single_one_is_told(tmp_path: Path) -> None:
    limits = Limits(max_batch_size=1, max_queue_size=2, num_extra_slots=0)
    async with serving({"ask": {**MODELS["ask"], "loads_at_start": True}}, limits) as tight:
        marker, pool = tmp_path / "go", tight.pool("ask")
        several = [encode(noise(30, 30, seed)) for seed in range(12)]
        order = prompts(f"wait {marker}")
        waiting = asyncio.create_task(ask(tight, pictures(*several), order, model_id="ask"))
        await until(lambda: (pool.snapshot()["in_flight"], pool.snapshot()["queue_length"]) == (1, 2))
        one = await ask(tight, pictures(IMAGE), order, model_id="ask")
        assert error_of(one)[:2] == (503, "queue_full")
        assert not waiting.done()
        marker.touch()
        assert len(answers(await waiting)) == 12


async def test_answers_that_wait_for_the_last_one_count_as_bodies() -> None:
    said = json.dumps({"text": "x" * 500})
    async with serving({"ask": {**MODELS["ask"], "loads_at_start": True}}, max_body_bytes=4096, max_json_bytes=4096, max_in_flight_bytes=4096) as small:  # fmt: skip
        tiny = [encode(noise(3, 3, seed)) for seed in range(12)]
        reply = await ask(small, pictures(*tiny), prompts("say " + said), model_id="ask")
        assert error_of(reply)[:2] == (503, "overloaded")
        assert (
            len(answers(await ask(small, pictures(*tiny[:3]), prompts("say " + said), model_id="ask"))) == 3
        )
        small.assert_nothing_is_held()


async def test_json_of_many_fields_is_refused_before_it_is_read(running: Running) -> None:
    fields = ",".join(f'"a{number}":1' for number in range(70_000))
    for body in (f'{{"inputs":[],"parameters":{{{fields}}}}}', f"{{{fields}}}"):
        reply = await running.client.post("/v2/models/echo/infer", content=body)
        assert error_of(reply)[:2] == (400, "invalid_request")
