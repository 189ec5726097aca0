"""`GET /metrics` over real sockets, with fake models."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.errors import KINDS
from server.metrics import Metrics
from server.metrics_table import described
from server.scrape import Scrape
from tests.server.conftest import Running, serving, until
from tests.server.images import encode, scene
from tests.server.origin import response, running_origin
from tests.server.test_fetch import fetcher

IMAGE = encode(scene())


def samples(page: str) -> Mapping[tuple[str, ...], float]:
    """Counters by name and label values, these in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


CLOSED = ("engine_connections_closed_total", "idle")


async def scrape(running: Running) -> Mapping[tuple[str, ...], float]:
    answer = await running.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, Metrics.MEDIA_TYPE)
    return samples(answer.text)


async def test_requests_are_counted_by_model_and_status() -> None:
    async with serving() as running:
        await running.infer(IMAGE)
        await running.infer(IMAGE)
        await running.infer(b"nothing")
        for name in ("nope", "x" * 60, 'a"} 1\n'):
            assert (await running.infer(IMAGE, name)).status_code == 404
            assert (await running.client.get(f"/models/{'y' * 30}")).status_code == 404
        found = await scrape(running)
    assert found["engine_requests_total", "", "echo", "200"] == 2
    assert found["engine_requests_total", "image_undecodable", "echo", "422"] == 1
    assert found["engine_requests_total", "model_not_found", "", "404"] == 6
    models = {labels[2] for labels in found if labels[0] == "engine_requests_total"}
    assert models == {"echo", ""}, "a name that nobody knows is no label"


async def test_hits_and_misses_of_the_vision_cache_are_counted_by_model() -> None:
    models = {name: {"task": "vqa", "resize": "square_bicubic"} for name in ("ask", "tell")}
    async with serving(models) as running:
        for model_id, said in (("ask", "false"), ("ask", "true"), ("ask", "true"), ("tell", "false")):
            reply = await running.infer(
                IMAGE, model_id, prompt=f'say {{"answer":"a","vision_cached":{said}}}'
            )
            assert reply.json()["vision_cached"] is (said == "true")
        await running.infer(IMAGE, "ask", prompt='say {"answer":"\\"vision_cached\\":true"}')
        assert (await running.infer(IMAGE, "ask", prompt="refuse image_unprocessable")).status_code == 422
        found = await scrape(running)
    counted = {
        labels[1:]: value for labels, value in found.items() if labels[0] == "engine_vision_cache_total"
    }
    assert counted == {("ask", "hit"): 2, ("ask", "miss"): 1, ("tell", "miss"): 1}


def stages_of(found: Mapping[tuple[str, ...], float], model_id: str) -> Mapping[str, float]:
    counted = (labels for labels in found if labels[:2] == ("engine_stage_seconds_count", model_id))
    return {labels[2]: found[labels] for labels in counted}


async def test_an_answer_is_counted_in_the_stages_that_it_went_through_and_an_error_in_none() -> None:
    async with running_origin() as origin:
        origin.answers["/a.png"] = response(IMAGE)
        one = fetcher(origin)
        async with serving(fetcher=one, image_url="public") as running:
            assert (await running.infer(b"nothing")).status_code == 422
            for _ in range(2):
                assert (await running.infer(IMAGE)).status_code == 200
            for path, status in (("a.png", 200), ("gone", 422)):
                answer = await running.client.post(
                    "/inference", json={"model_id": "echo", "image_url": f"http://images.example/{path}"}
                )
                assert answer.status_code == status
            found = await scrape(running)
    stages = stages_of(found, "echo")
    assert {name: stages[name] for name in ("fetch", "decode", "queue", "infer", "total")} == {
        "fetch": 1, "decode": 3, "queue": 3, "infer": 3, "total": 3,
    }  # fmt: skip
    assert (
        0
        < found["engine_stage_seconds_sum", "echo", "decode"]
        < found["engine_stage_seconds_sum", "echo", "total"]
    )
    assert (found["engine_fetches_total", "ok"], found["engine_fetches_total", "status"]) == (1, 1)
    assert found["engine_batch_size_count", "echo"] == found["engine_batch_size_bucket", "1.0", "echo"] == 3


async def test_counters_of_a_model_never_go_back_whatever_becomes_of_its_pool() -> None:
    models = {"ask": {"task": "vqa", "resize": "square_bicubic", "loads_at_start": True}}
    async with serving(models) as running:

        async def counted() -> Mapping[tuple[str, ...], float]:
            found = await scrape(running)
            return {
                labels: value for labels, value in found.items() if labels[0].endswith(("_total", "_count"))
            }

        assert (await running.infer(IMAGE, "ask", prompt="die")).status_code == 422
        served = running.engine.registry.models["ask"]
        await until(lambda: served.is_ready)
        before = await counted()
        died = sum(value for labels, value in before.items() if labels[0] == "engine_worker_deaths_total")
        assert (died, before["engine_poison_total", "ask"], before["engine_replays_total", "ask"]) == (
            2,
            1,
            1,
        )
        assert before["engine_model_loads_total", "ask", "ready"] == 1
        for order in ("reload", "unload", "load"):
            assert (await running.client.post(f"/models/ask/{order}")).status_code in (200, 202)
            after = await counted()
            assert {labels for labels in before if after[labels] < before[labels]} == set(), order
            before = after
        assert (await running.infer(IMAGE, "ask", prompt="say {}")).status_code == 200
        after = await counted()
        found = await scrape(running)
    assert after["engine_batch_size_count", "ask"] == 1
    assert after["engine_worker_deaths_total", "ask", "stopped"] == 2
    assert after["engine_model_loads_total", "ask", "ready"] == 2
    assert after["engine_model_reloads_total", "ask", "ready"] == 1
    assert after["engine_model_unloads_total", "ask", "asked"] == 1
    assert (found["engine_model_ready", "ask"], found["engine_model_required", "ask"]) == (1, 1)
    assert found["engine_replicas", "cpu", "ask", "ready"] == 1
    assert found["engine_slots", "ask"] == found["engine_slots_free", "ask"] > 0
    assert found["engine_worker_memory_bytes", "cpu", "ask", "0"] > 2**20


async def test_a_load_that_failed_or_found_no_room_is_counted_as_that() -> None:
    models = {"broken": {"fail": "weights_invalid", "permanent": True}, "fine": {}}
    async with serving(models, memory_budget=2**20) as running:
        assert (await running.infer(IMAGE, "fine")).status_code == 503
        running.engine.registry.room.budget = 2**40
        assert (await running.infer(IMAGE, "broken")).status_code == 503
        await until(lambda: running.engine.registry.models["broken"].failure is not None)
        found = await scrape(running)
    assert found["engine_model_loads_total", "broken", "failed"] == 1
    assert found["engine_model_loads_total", "fine", "refused"] == 1
    assert found["engine_model_state", "broken", "failed"] == 1


async def test_the_page_is_what_the_readme_says_and_what_prometheus_reads() -> None:
    async with serving(response_cache_bytes=2**20) as running:
        for _ in range(2):
            await running.infer(IMAGE)
        running.engine.metrics.count_listed("echo", "")
        running.engine.metrics.count_fetch("ok")
        running.engine.metrics.count_vision("echo", b'{"vision_cached":true}')
        running.engine.metrics.count_sharing("echo", "shared", has_cache=True)
        running.engine.metrics.count_closed("idle")
        lag = "engine_event_loop_lag_seconds_count"
        await until(lambda: (running.engine.metrics.registry.get_sample_value(lag) or 0) > 0)
        page = (await running.client.get("/metrics")).text
        assert running.engine.metrics.num_in_flight == 0
    families = {family.name: family for family in text_string_to_metric_families(page)}
    for name, each in described().items():
        family = families.pop(name.removesuffix("_total"))
        assert (family.type, family.documentation) == (each.kind, each.meaning)
        labels = {key for sample in family.samples for key in sample.labels} - {"le"}
        absent = name.startswith(("engine_gpu_", "engine_workers_recycled"))  # nothing to tell here
        assert labels == (set() if absent else set(each.labels)), name
    assert not families, "a metric that no table names"
    found = samples(page)
    assert found["engine_requests_in_flight",] == 1, "the scrape itself"
    assert found["engine_event_loop_lag_seconds_count",] > 0
    codes = set(re.findall(r'code="([^"]*)"', page))
    assert codes <= {"", *KINDS}
    check_with_promtool(page)


def check_with_promtool(page: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


async def test_a_crowd_of_scrapes_costs_two_and_nobody_is_told_the_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    goes_on, make, num_made = asyncio.Event(), Scrape._make, 0

    async def counted(scrape: Scrape) -> bytes:
        nonlocal num_made
        page = await make(scrape)
        num_made += 1
        await goes_on.wait()
        return page

    async with serving({}) as running:
        monkeypatch.setattr(Scrape, "_make", counted)
        page = running.engine.scrape.page
        first = asyncio.create_task(page())
        await until(lambda: num_made == 1)
        running.engine.metrics.count_closed("idle")  # after the first was asked, before the others
        crowd = [asyncio.create_task(page()) for _ in range(50)]
        await asyncio.sleep(0)
        goes_on.set()
        assert {samples((await each).decode())[CLOSED] for each in crowd} == {1.0}
        assert CLOSED not in samples((await first).decode())
        assert num_made == 2
        running.engine.metrics.count_closed("idle")
        assert samples((await page()).decode())[CLOSED] == 2.0
