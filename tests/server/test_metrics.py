"""`GET /metrics` over real sockets, with fake models."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from server.metrics import Metrics
from tests.server.conftest import Running, serving
from tests.server.images import encode, scene

IMAGE = encode(scene())


def samples(page: str) -> Mapping[tuple[str, ...], float]:
    """Counters by name and label values, these in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


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
