"""Pictures as answers over HTTP, with models that say what they are told to."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from server.decoder_pool import DecoderPool
from server.palette import colour_of
from tests.hostile.obedient import order
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import Pixels, encode, noise, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

WIDTH, HEIGHT = 300, 200
BOX = {"x1": 100.0, "y1": 120.0, "x2": 240.0, "y2": 180.0}
SAID = {"predictions": [{"label": "cat", "class_id": 4, "confidence": 0.9, "box": BOX}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["thread", "process"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    options: dict[str, Any] = {"decode": request.param, "decode_threads": 2, "deduplicate": True}
    if request.param == "process":
        options["decoder"] = DecoderPool(2, limits(), timeout=1.0, factory="tests.hostile.obedient:load")
    async with serving(models={"say": {"task": "vqa", "loads_at_start": True}}, **options) as running:
        await until(lambda: running.engine.decoder.is_ready)
        yield running
        decoder = running.engine.decoder
        await until(lambda: not isinstance(decoder, DecoderPool) or decoder.is_idle)


def limits() -> Any:
    from server.decode import ImageLimits

    return ImageLimits()


async def ask(
    running: Running, encoded: bytes, accept: str | None = "image/png", said: Any = SAID
) -> httpx.Response:
    params = {"model_id": "say", "prompt": f"say {json.dumps(said, separators=(',', ':'))}"}
    headers = {"content-type": "image/png"} | ({} if accept is None else {"accept": accept})
    return await running.client.post("/inference", params=params, content=encoded, headers=headers)


def pixels_of(reply: httpx.Response) -> Pixels:
    assert reply.status_code == 200, reply.text
    with Image.open(io.BytesIO(reply.content)) as image:
        assert image.format and reply.headers["content-type"] == f"image/{image.format.lower()}"
        return np.asarray(image)


async def test_a_png_is_the_original_with_the_box_where_json_says(running: Running) -> None:
    picture = noise(WIDTH, HEIGHT)
    reply = await ask(running, encode(picture))
    pixels = pixels_of(reply)
    for x, y in ((100, 150), (239, 150), (170, 179), (200, 120)):
        assert tuple(pixels[y, x].tolist()) == colour_of(4), (x, y)
    inside = (slice(125, 175), slice(105, 235))
    assert (pixels[inside] == picture[inside]).all() and (pixels[185:] == picture[185:]).all()
    assert reply.headers["x-request-id"] and reply.headers["vary"] == "accept"
    stages = dict(
        each.split(";dur=") for each in reply.headers["server-timing"].split(", ") if ";dur=" in each
    )
    assert 0 < float(stages["draw"]) < float(stages["total"])


async def test_a_jpeg_is_nearly_the_original(running: Running) -> None:
    pixels = pixels_of(await ask(running, encode(scene(WIDTH, HEIGHT)), "image/jpeg"))
    assert np.abs(pixels[185:].astype(int) - scene(WIDTH, HEIGHT)[185:]).mean() < 3


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "image/jpeg;q=0.5,*/*", "garbage"])
async def test_who_asks_for_no_picture_gets_json_and_nothing_is_drawn(
    running: Running, accept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draw(*_: object) -> bytes:
        raise AssertionError("nothing is to be drawn")

    monkeypatch.setattr(running.engine.decoder, "draw", draw)
    reply = await ask(running, encode(scene()), accept)
    assert reply.status_code == 200 and reply.json()["predictions"] == SAID["predictions"]
    assert reply.json()["timings_ms"]["draw"] == 0 and reply.headers["vary"] == "accept"


@pytest.mark.parametrize("accept", ["image/webp", "image/gif, image/avif"])
async def test_other_pictures_are_not_to_be_had(running: Running, accept: str) -> None:
    reply = await ask(running, encode(scene()), accept)
    assert (reply.status_code, error_of(reply)) == (406, "not_acceptable")


async def test_errors_are_json_whatever_is_accepted(running: Running) -> None:
    reply = await ask(running, b"no image at all")
    assert (reply.status_code, error_of(reply)) == (422, "image_undecodable")
    headers = {"accept": "image/jpeg", "content-type": "image/png"}
    reply = await running.client.post("/inference?model_id=nobody", content=b"x", headers=headers)
    assert (reply.status_code, error_of(reply)) == (404, "model_not_found")
    reply = await running.client.post(
        "/inference?model_id=say", content=b"x", headers={**headers, "content-type": "text/x"}
    )
    assert (reply.status_code, error_of(reply)) == (415, "unsupported_media_type")


async def test_an_answer_that_cannot_be_drawn_is_an_error_and_not_a_broken_picture(running: Running) -> None:
    for said in ({"predictions": [{"label": "no box"}]}, {"predictions": 7}):
        reply = await ask(running, encode(scene()), said=said)
        assert (reply.status_code, error_of(reply)) == (422, "image_unprocessable")


async def test_a_picture_turned_by_exif_is_drawn_upright(running: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = noise(HEIGHT, WIDTH)
    encoded = encode(Image.fromarray(np.ascontiguousarray(np.rot90(picture))), "PNG", exif=exif)
    pixels = pixels_of(await ask(running, encoded, said={"predictions": []}))
    assert (pixels == picture).all()


async def test_a_transparent_picture_is_drawn_on_white_as_the_model_saw_it(running: Running) -> None:
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (255, 0, 0, 0))
    pixels = pixels_of(await ask(running, encode(picture)))
    assert pixels.shape == (HEIGHT, WIDTH, 3) and (pixels[190:] == 255).all()
    assert tuple(pixels[150, 100].tolist()) == colour_of(4)


async def test_base64_in_json_gets_a_picture_too(running: Running) -> None:
    body = {"model_id": "say", "prompt": f"say {json.dumps(SAID)}", "image_base64": base64.b64encode(encode(scene(WIDTH, HEIGHT))).decode()}  # fmt: skip
    reply = await running.client.post("/inference", json=body, headers={"accept": "image/png"})
    assert tuple(pixels_of(reply)[150, 100].tolist()) == colour_of(4)


async def test_equal_requests_share_an_answer_and_each_gets_its_own_kind_of_picture(running: Running) -> None:
    encoded = encode(noise(WIDTH, HEIGHT, 3))
    accepts = ["image/png", "image/jpeg", None] * 3
    replies = await asyncio.gather(*(ask(running, encoded, each) for each in accepts))
    types = [reply.headers["content-type"] for reply in replies]
    assert types == ["image/png", "image/jpeg", "application/json"] * 3
    assert len({reply.content for reply in replies[0::3]}) == 1


async def test_a_picture_beyond_its_bound_is_refused_and_jpeg_may_do(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    if running.engine.settings.decode == "process":
        pytest.skip("the bound is the decoder process's own")
    monkeypatch.setattr("server.sketch.MAX_PICTURE_BYTES", 50_000)
    reply = await ask(running, encode(noise(WIDTH, HEIGHT)))
    assert (reply.status_code, error_of(reply)) == (422, "picture_too_large")
    assert (await ask(running, encode(scene(WIDTH, HEIGHT)), "image/jpeg")).status_code == 200


async def test_pictures_in_flight_count_until_they_are_sent(running: Running) -> None:
    await asyncio.gather(*(ask(running, encode(noise(400, 300, n))) for n in range(6)))
    await until(lambda: running.engine.budget.num_bytes == 0)


async def test_drawing_is_in_the_metrics(running: Running) -> None:
    await ask(running, encode(scene()))
    text = (await running.client.get("/metrics")).text
    assert 'engine_stage_seconds_count{model="say",stage="draw"}' in text


def isolated(running: Running) -> DecoderPool:
    decoder = running.engine.decoder
    if not isinstance(decoder, DecoderPool):
        pytest.skip("there are no decoder processes here")
    return decoder


@pytest.mark.parametrize("name", ["segfault", "exit", "lie", "loop"])
async def test_what_ends_a_decoder_while_it_draws_costs_its_own_request_a_422_and_nobody_else_anything(
    running: Running, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = isolated(running)._pool
    monkeypatch.setattr(pool._assignment._pace, "timeout", lambda shape, is_first: 0.5)
    killer = asyncio.create_task(ask(running, order(encode(noise(60, 60)), f"draw {name}")))
    neighbours = await asyncio.gather(*(ask(running, encode(noise(60, 60, n))) for n in range(6)))
    reply = await killer
    assert (reply.status_code, error_of(reply)) == (422, "image_unprocessable")
    assert [neighbour.status_code for neighbour in neighbours] == [200] * 6
    assert (await ask(running, order(encode(noise(60, 60)), f"draw {name}"), None)).status_code == 200, "JSON"


async def test_a_decoder_killed_while_it_draws_loses_no_request(running: Running) -> None:
    decoder = isolated(running)
    asked = [asyncio.create_task(ask(running, encode(noise(900, 600, n)))) for n in range(3)]
    await until(lambda: any(batch.entries[0].batch_key == "draw" for each in decoder.replicas for batch in each.in_flight))  # fmt: skip
    victim = next(
        each for each in decoder.replicas if each.in_flight and each.in_flight[0].entries[0].batch_key
    )
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    for reply in await asyncio.gather(*asked):
        assert pixels_of(reply).shape == (600, 900, 3)


async def test_a_client_that_leaves_while_its_picture_is_drawn_leaves_nothing_behind(
    running: Running,
) -> None:
    asked = asyncio.create_task(ask(running, encode(noise(900, 600, 9))))
    await until(lambda: running.engine.budget.num_bytes > 0)
    await asyncio.sleep(0.3)  # wherever it is by then
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await until(lambda: running.engine.budget.num_bytes == 0)
    await until(lambda: not isinstance(running.engine.decoder, DecoderPool) or running.engine.decoder.is_idle)
