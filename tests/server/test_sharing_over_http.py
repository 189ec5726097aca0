"""Equal requests over real sockets, on fake models in real processes: what is computed, and what each client sees."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from pool import Limits
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, noise, scene
from tests.server.test_metrics import scrape

IMAGE = encode(scene())
ASK: Mapping[str, Mapping[str, Any]] = {
    "ask": {"task": "vqa", "resize": "square_bicubic", "loads_at_start": True}
}
SLOW: Mapping[str, Mapping[str, Any]] = {"echo": {"loads_at_start": True, "seconds": 0.3}}


def question(marker: Path, **fields: Any) -> dict[str, Any]:
    """Answered once `marker` is there."""
    return {"model_id": "ask", "prompt": f"wait {marker}", **fields}


def begin(running: Running, options: Mapping[str, Any], image: bytes = IMAGE) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(running.infer(image, **options))


async def until_held(running: Running, num: int) -> None:
    """Until `num` requests are between admission and answer."""
    await until(lambda: sum(model.num_users for model in running.engine.registry.models.values()) == num)


def num_batches(running: Running, model_id: str) -> int:
    return running.pool(model_id).counters["batches"]


async def connect_and_ask(running: Running, options: Mapping[str, Any]) -> asyncio.StreamWriter:
    """A client that can be cut off."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    target = httpx.URL("/inference", params=dict(options)).raw_path.decode()
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(IMAGE)}\r\n\r\n"
    writer.write(head.encode() + IMAGE)
    await writer.drain()
    return writer


async def test_of_many_equal_requests_one_row_is_computed_and_each_has_its_own_reply() -> None:
    async with serving(SLOW, deduplicate=True) as running:
        pool = running.pool("echo")
        text = base64.b64encode(IMAGE).decode()
        body = {"model_id": "echo", "image_base64": text, "parameters": {"confidence": 0.25}}
        waiting = [
            running.infer(IMAGE)
            if number % 3
            else running.client.post("/inference", json=body, headers={"x-request-id": f"mine-{number}"})
            for number in range(32)
        ]
        replies = asyncio.gather(*waiting)
        await until_held(running, 32)
        slots = pool.snapshot()["slots"]
        assert slots["total"] - slots["free"] <= 1, "followers hold no slot"
        answers = await replies
        found = await scrape(running)
    assert {answer.status_code for answer in answers} == {200}
    assert pool.counters["batches"] == 1
    bodies = [answer.json() for answer in answers]
    assert all('batch;desc="1"' in answer.headers["server-timing"] for answer in answers), "one row"
    assert len({body["request_id"] for body in bodies}) == 32
    assert [body["request_id"] for body in bodies[::3]] == [f"mine-{number}" for number in range(0, 32, 3)]
    assert len({str((body["crc"], body["params"], body["pid"], body["image"])) for body in bodies}) == 1
    origins = [body["cache"] for body in bodies]
    assert (origins.count("miss"), origins.count("shared")) == (1, 31)
    for answer, body in zip(answers, bodies, strict=True):
        assert f'cache;desc="{body["cache"]}"' in answer.headers["server-timing"]
        assert (body["timings_ms"]["infer"] > 0) == (body["cache"] == "miss")
        assert body["timings_ms"]["total"] >= body["timings_ms"]["queue"]
    assert found["engine_deduplicated_total", "echo"] == 31
    assert not any(name.startswith("engine_response_cache_total") for name, *_ in found)


async def test_by_default_nothing_is_shared_and_nothing_kept() -> None:
    async with serving(SLOW) as running:
        assert running.engine.sharing is None
        answers = await asyncio.gather(*(running.infer(IMAGE) for _ in range(9)))
        sizes = [answer.headers["server-timing"].rpartition("=")[2].strip('"') for answer in answers]
        assert sum(1 / int(size) for size in sizes) == pytest.approx(num_batches(running, "echo"))
        assert all("cache" not in answer.json() for answer in answers)
        assert all("cache" not in answer.headers["server-timing"] for answer in answers)


async def test_other_pictures_parameters_and_prompts_are_not_shared(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    async with serving(ASK, deduplicate=True) as running:
        base = question(marker)
        others = [
            begin(running, base),
            begin(running, base, encode(noise(30, 30))),
            begin(running, {**base, "max_new_tokens": 7}),
            begin(running, {**base, "num_beams": 2}),
            begin(running, {"model_id": "ask"}),
            begin(running, {"model_id": "ask", "prompts": ["a", "b"]}),
            begin(running, {"model_id": "ask", "prompts": ["b", "a"]}),
            begin(running, {"model_id": "ask", "prompt": "a"}),
        ]
        same = [begin(running, {**base, "max_new_tokens": 20}), begin(running, {**base, "num_beams": "1"})]
        await until_held(running, 10)
        marker.touch()
        assert {(await answer).json()["cache"] for answer in others} == {"miss"}
        assert {(await answer).json()["cache"] for answer in same} == {"shared"}, (
            "defaults are parameters too"
        )


@pytest.mark.parametrize("is_running", [True, False])
async def test_followers_survive_that_their_leader_disconnects(tmp_path: Path, is_running: bool) -> None:
    marker, first = tmp_path / "go", tmp_path / "first"
    async with serving(ASK, deduplicate=True) as running:
        pool = running.pool("ask")
        blocking = [] if is_running else [begin(running, question(first))]
        await until(lambda: pool.snapshot()["in_flight"] == len(blocking))
        leader = await connect_and_ask(running, question(marker))
        await until(
            lambda: pool.snapshot()["in_flight"] + pool.snapshot()["queue_length"] == 1 + len(blocking)
        )
        followers = [begin(running, question(marker)) for _ in range(3)]
        await until_held(running, 4 + len(blocking))
        leader.transport.abort()
        await until_held(running, 3 + len(blocking))
        assert running.engine.budget.num_bytes == (4 + len(blocking)) * len(IMAGE), "its bytes are still used"
        first.touch()
        marker.touch()
        answers = await asyncio.gather(*followers, *blocking)
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["cache"] for answer in answers[:3]} == {"shared"}
        assert num_batches(running, "ask") == 1 + len(blocking), "nothing ran twice"


async def test_when_all_have_disconnected_the_run_leaves_the_queue(tmp_path: Path) -> None:
    first = tmp_path / "first"
    async with serving(ASK, deduplicate=True) as running:
        pool = running.pool("ask")
        blocking = begin(running, question(first))
        await until(lambda: pool.snapshot()["in_flight"] == 1)
        leaving = [await connect_and_ask(running, {"model_id": "ask"}) for _ in range(3)]
        await until_held(running, 4)
        await until(lambda: pool.snapshot()["queue_length"] == 1)
        for writer in leaving:
            writer.transport.abort()
        await until(lambda: pool.snapshot()["queue_length"] == 0)
        first.touch()
        assert (await blocking).status_code == 200
        await until_held(running, 0)
        assert running.engine.sharing is not None and running.engine.sharing.num_flights == 0


async def test_followers_survive_their_leaders_deadline(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    async with serving(ASK, deduplicate=True, deadline=5.0) as running:
        leader = begin(running, question(marker))
        await until(lambda: running.pool("ask").snapshot()["in_flight"] == 1)
        await asyncio.sleep(2.5)  # the deadlines of the others are later by that
        followers = [begin(running, question(marker)) for _ in range(3)]
        answer = await leader
        assert (answer.status_code, error_of(answer)) == (504, "deadline_exceeded")
        assert not any(follower.done() for follower in followers)
        marker.touch()
        answers = await asyncio.gather(*followers)
        assert [answer.status_code for answer in answers] == [200] * 3
        assert num_batches(running, "ask") == 1


async def test_a_follower_is_not_kept_beyond_its_own_deadline(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    async with serving(ASK, deduplicate=True, deadline=0.5) as running:
        answers = await asyncio.gather(*(running.infer(IMAGE, **question(marker)) for _ in range(4)))
        assert [error_of(answer) for answer in answers] == ["deadline_exceeded"] * 4
        marker.touch()


async def test_followers_of_a_condemned_leader_run_for_themselves(tmp_path: Path) -> None:
    """Without quarantine, a picture that kills two workers and is harmless from then on."""
    async with serving(ASK, Limits(quarantine_time=0.0), deduplicate=True) as running:
        options = {"model_id": "ask", "prompt": f"die {tmp_path}"}
        answers = await asyncio.gather(*(begin(running, options) for _ in range(6)))
        counters = running.pool("ask").counters
    refused = [answer for answer in answers if answer.status_code != 200]
    assert [error_of(answer) for answer in refused] == ["image_unprocessable"]
    assert (counters["poison"], counters["batches"]) == (1, 1)
    origins = [answer.json()["cache"] for answer in answers if answer.status_code == 200]
    assert sorted(origins) == ["miss"] + ["shared"] * 4


async def test_a_poison_picture_kills_no_more_workers_for_all_its_followers() -> None:
    async with serving(ASK, deduplicate=True, response_cache_bytes=1 << 20) as running:
        options = {"model_id": "ask", "prompt": "die"}
        answers = await asyncio.gather(*(begin(running, options) for _ in range(8)))
        counters = running.pool("ask").counters
        assert {error_of(answer) for answer in answers} == {"image_unprocessable"}
        assert (counters["poison"], counters["quarantined"]) == (1, 1), (
            "one verdict each for leader and follower"
        )
        num_deaths = sum(num for name, num in counters.items() if name.startswith("deaths_"))
        assert num_deaths == 2
        assert (await running.infer(IMAGE, "ask", prompt="well?")).status_code == 200
        found = await scrape(running)
    assert ("engine_response_cache_total", "ask", "hit") not in found, "errors are not kept"


async def test_a_full_queue_refuses_the_leader_and_its_followers_ask_for_themselves(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    limits = Limits(max_queue_size=1, num_extra_slots=0, max_batch_size=1)
    async with serving(ASK, limits, deduplicate=True) as running:
        distinct = [begin(running, question(marker), encode(noise(20, 20, seed))) for seed in range(2)]
        await until(lambda: running.pool("ask").snapshot()["queue_length"] == 1)
        refused = await asyncio.gather(*(running.infer(IMAGE, "ask") for _ in range(5)))
        assert {error_of(answer) for answer in refused} == {"queue_full"}
        marker.touch()
        assert [answer.status_code for answer in await asyncio.gather(*distinct)] == [200, 200]
        await until_held(running, 0)
        assert (await running.infer(IMAGE, "ask")).status_code == 200


async def test_a_kept_answer_is_given_again_until_the_model_is_reloaded_or_unloaded() -> None:
    config: dict[str, Any] = {"version": 1}
    async with serving({"echo": config}, response_cache_bytes=1 << 20) as running:

        async def ask() -> tuple[int, str]:
            body = (await running.infer(IMAGE)).json()
            return body["version"], body["cache"]

        assert [await ask() for _ in range(3)] == [(1, "miss"), (1, "hit"), (1, "hit")]
        assert num_batches(running, "echo") == 1
        config["version"] = 2
        assert (await running.client.post("/models/echo/reload")).status_code == 200
        sharing = running.engine.sharing
        assert sharing is not None and len(sharing._cache) == 0
        assert [await ask() for _ in range(2)] == [(2, "miss"), (2, "hit")]
        config["version"] = 3
        assert (await running.client.post("/models/echo/unload")).status_code == 200
        assert len(sharing._cache) == 0
        assert [await ask() for _ in range(2)] == [(3, "miss"), (3, "hit")]
        found = await scrape(running)
    assert found["engine_response_cache_total", "echo", "hit"] == 4
    assert found["engine_response_cache_total", "echo", "miss"] == 3


async def test_a_run_of_the_old_weights_is_not_shared_with_requests_after_the_reload(tmp_path: Path) -> None:
    config: dict[str, Any] = {"task": "vqa", "version": 1}
    marker = tmp_path / "go"
    settings: dict[str, Any] = {"deduplicate": True, "response_cache_bytes": 1 << 20}
    async with serving({"ask": config}, **settings) as running:
        assert (await running.infer(IMAGE, "ask")).status_code == 200
        before = [begin(running, question(marker)) for _ in range(3)]
        await until_held(running, 3)
        config["version"] = 2
        assert (await running.client.post("/models/ask/reload")).status_code == 200
        after = [begin(running, question(marker)) for _ in range(3)]
        await until_held(running, 6)
        marker.touch()
        assert {(await answer).json()["version"] for answer in before} == {1}
        assert {(await answer).json()["version"] for answer in after} == {2}
        body = (await running.infer(IMAGE, **question(marker))).json()
        assert (body["version"], body["cache"]) == (2, "hit"), "the old run's answer was not kept"


async def test_the_cache_stays_within_its_bytes_under_many_distinct_pictures() -> None:
    max_bytes = 20_000
    async with serving(response_cache_bytes=max_bytes) as running:
        sharing = running.engine.sharing
        assert sharing is not None
        for seed in range(100):
            assert (await running.infer(encode(noise(16, 16, seed)))).json()["cache"] == "miss"
            assert sharing._cache.num_bytes <= max_bytes
        assert 10 < len(sharing._cache) < 100
        assert (await running.infer(encode(noise(16, 16, 99)))).json()["cache"] == "hit"
        assert (await running.infer(encode(noise(16, 16, 0)))).json()["cache"] == "miss"


async def test_damaged_pictures_and_bad_base64_keep_their_codes() -> None:
    async with serving(deduplicate=True, response_cache_bytes=1 << 20) as running:
        answers = await asyncio.gather(*(running.infer(b"nothing") for _ in range(4)))
        assert {error_of(answer) for answer in answers} == {"image_undecodable"}
        bad = {"model_id": "echo", "image_base64": "@@@@"}
        answers = await asyncio.gather(*(running.client.post("/inference", json=bad) for _ in range(4)))
        assert {error_of(answer) for answer in answers} == {"invalid_base64"}


@pytest.mark.asyncio
async def test_one_run_answers_equal_requests_of_every_protocol() -> None:
    image = base64.b64encode(IMAGE).decode()
    said = 'say {"answer":"x","prompt":"q","tokens":{"prompt":1,"written":2},"is_cut":false}'
    content = [
        {"type": "text", "text": said},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
    ]
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "data": [given]}
        for name, given in (("image", image), ("prompt", said))
    ]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/inference", {"model_id": "ask", "image_base64": image, "prompt": said}),
        ("/inference/batch", {"model_id": "ask", "prompt": said, "images": [{"image_base64": image}] * 2}),
        ("/v2/models/ask/infer", {"inputs": inputs, "outputs": [{"name": "json"}]}),
        ("/v1/chat/completions", {"model": "ask", "messages": [{"role": "user", "content": content}]}),
    ]
    async with serving(ASK, response_cache_bytes=2**20) as running:
        replies = [await running.client.post(path, json=body) for path, body in asked]
        assert [reply.status_code for reply in replies] == [200] * 4
        assert num_batches(running, "ask") == 1
