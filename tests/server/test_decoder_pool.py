"""Decoding in processes: real ones, without a server around them. What goes wrong in them is for tests/hostile."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from models.spec import Resize
from server.decode import Decoded, Decoder, ImageLimits
from server.decoder_pool import DecoderPool
from server.errors import RequestFailedError
from tests.hostile.obedient import order
from tests.server.conftest import serving, until
from tests.server.images import Pixels, encode, noise, scene, webp_lossless, with_size

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=2_000_000)
SIDE = 64


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[DecoderPool]:
    decoder = DecoderPool(2, LIMITS, factory="tests.hostile.obedient:load")
    decoder.start()
    yield decoder
    await decoder.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def decoder(started: DecoderPool) -> AsyncIterator[DecoderPool]:
    """At the end no slot, turn or pixel is held."""
    yield started
    await until(lambda: started.is_idle)


def empty(side: int = SIDE) -> Pixels:
    return np.zeros((side, side, 3), np.uint8)


async def code_of(decoder: DecoderPool, encoded: bytes | str, deadline: float | None = None) -> str:
    with pytest.raises(RequestFailedError) as caught:
        await decoder.decode_into(empty(), encoded, "letterbox", deadline=deadline)
    return caught.value.code


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "center_crop", "square_bicubic"])
async def test_threads_and_processes_give_the_same_pixels_sizes_and_keys(
    decoder: DecoderPool, resize: Resize
) -> None:
    threads = Decoder(1, LIMITS)
    pictures = [encode(scene(150, 90), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    pictures.append(encode(noise(1000, 700), "JPEG", quality=95))
    for encoded in pictures:
        for given in (encoded, base64.b64encode(encoded).decode()):
            slots = empty(), empty()
            there = await decoder.decode_into(slots[0], given, resize, True)
            here = await threads.decode_into(slots[1], given, resize, True)
            assert there == here and there.key is not None
            np.testing.assert_array_equal(*slots)
    threads.close()


@pytest.mark.parametrize(
    "encoded",
    [
        b"", b"nothing", b"%PDF-1.7", encode(scene())[:60], encode(scene(), "JPEG")[:200], encode(noise(2000, 1001)),
        with_size(encode(scene(), "JPEG"), 40_000, 40_000), webp_lossless(9000, 9000), "no base64!", "",
    ],
)  # fmt: skip
async def test_threads_and_processes_refuse_with_the_same_code(
    decoder: DecoderPool, encoded: bytes | str
) -> None:
    threads = Decoder(1, LIMITS)
    with pytest.raises(RequestFailedError) as caught:
        await threads.decode_into(empty(), encoded, "letterbox")
    threads.close()
    assert await code_of(decoder, encoded) == caught.value.code


async def test_an_image_of_many_megabytes_leaves_no_memory_behind(decoder: DecoderPool) -> None:
    encoded = encode(noise(1200, 1200), "BMP")
    assert len(encoded) > 4_000_000

    def shared() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssShmem:"))

    await decoder.decode_into(empty(), encoded, "letterbox")
    before = shared()
    for _ in range(10):
        assert await decoder.decode_into(empty(), encoded, "letterbox") == Decoded(1200, 1200)
    text = base64.b64encode(encoded).decode()
    assert await decoder.decode_into(empty(), text, "letterbox") == Decoded(1200, 1200)
    assert shared() - before < 2_000_000


async def test_a_lie_is_refused_before_a_decoder_sees_it(decoder: DecoderPool) -> None:
    before = sum(replica.num_batches for replica in decoder.replicas)
    assert await code_of(decoder, with_size(encode(scene(), "JPEG"), 60_000, 60_000)) == "image_too_large"
    assert await code_of(decoder, webp_lossless(16_000, 16_000)) == "image_too_large"
    assert await code_of(decoder, b"nothing at all") == "image_undecodable"
    assert sum(replica.num_batches for replica in decoder.replicas) == before


async def test_many_at_once_wait_for_a_slot_and_all_are_decoded(decoder: DecoderPool) -> None:
    pictures = [noise(40, 30, seed) for seed in range(60)]
    slots = [empty() for _ in pictures]
    asked = (
        decoder.decode_into(slot, encode(picture), "stretch")
        for slot, picture in zip(slots, pictures, strict=True)
    )
    assert await asyncio.gather(*asked) == [Decoded(40, 30)] * 60
    assert len({slot.tobytes() for slot in slots}) == 60, "nobody has another's pixels"


async def test_who_cannot_have_a_decoder_before_the_deadline_is_told_so(decoder: DecoderPool) -> None:
    hanging = [asyncio.create_task(code_of(decoder, order(encode(scene()), f"loop{n}"))) for n in range(2)]
    await until(lambda: all(replica.in_flight for replica in decoder.replicas))
    started = time.monotonic()
    assert await code_of(decoder, encode(scene()), started + 0.2) == "deadline_exceeded"
    assert time.monotonic() - started < 2
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    for replica in decoder.replicas:
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGKILL)  # rather than wait until they are seen to hang


async def test_a_deadline_that_other_images_will_not_leave_is_told_as_one_at_once(
    decoder: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = decoder._pool._assignment._rate
    monkeypatch.setattr(rate, "row_seconds", 100.0)
    hanging = [asyncio.create_task(code_of(decoder, order(encode(scene()), f"loop{n}"))) for n in range(4, 6)]
    await until(lambda: all(replica.in_flight for replica in decoder.replicas))
    started = time.monotonic()
    assert await code_of(decoder, encode(scene()), started + 20) == "deadline_exceeded"
    assert time.monotonic() - started < 2
    for task in hanging:
        task.cancel()
    await asyncio.wait(hanging)
    for replica in decoder.replicas:
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGKILL)  # rather than wait until they are seen to hang


async def test_a_slot_is_not_reused_before_its_decoder_is_done_or_dead(decoder: DecoderPool) -> None:
    running = [asyncio.create_task(code_of(decoder, order(encode(scene()), f"loop{n}"))) for n in range(2)]
    await until(lambda: all(replica.in_flight for replica in decoder.replicas))
    held = {batch.entries[0].lease.slot for replica in decoder.replicas for batch in replica.in_flight}
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert not decoder.is_idle, "both slots are still held"
    slab = decoder._pool._slab
    assert slab is not None and not held & set(slab._free)
    for replica in decoder.replicas:
        assert replica.pid is not None
        os.kill(replica.pid, signal.SIGKILL)
    await until(lambda: decoder.is_idle)
    assert held <= set(slab._free)


async def test_a_decoder_killed_from_outside_costs_nobody_anything(decoder: DecoderPool) -> None:
    encoded = encode(noise(900, 900), "BMP")
    asked = [asyncio.create_task(decoder.decode_into(empty(), encoded, "stretch")) for _ in range(12)]
    await until(lambda: any(replica.in_flight for replica in decoder.replicas))
    victim = next(replica for replica in decoder.replicas if replica.in_flight)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    assert await asyncio.gather(*asked) == [Decoded(900, 900)] * 12


async def test_a_decoder_comes_back_without_a_pause_however_often_it_dies(decoder: DecoderPool) -> None:
    for number in range(8):
        assert await code_of(decoder, order(encode(scene()), f"exit{number}")) == "image_unprocessable"
    assert decoder.is_ready
    assert await decoder.decode_into(empty(), encode(scene()), "stretch") == Decoded(96, 64)


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_a_server_decodes_in_either_way_and_waits_for_its_decoders(mode: str) -> None:
    async with serving(decode=mode, decode_threads=1, wait=False) as running:
        reply = await running.infer(encode(scene()))  # before anything is ready
        assert reply.status_code == 200
        assert reply.json()["image"] == {"width": 96, "height": 64}
        await until(lambda: running.engine.decoder.is_ready)
        assert isinstance(running.engine.decoder, Decoder) == (mode == "thread")
