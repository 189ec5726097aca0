"""Decoders that are told to misbehave, inside the server: whoever told them gets a 422 and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from server.decode import Decoded, Decoder, ImageLimits
from server.decoder_pool import DecoderPool
from server.decoding import ImageDecoder
from server.errors import RequestFailedError
from tests.hostile.obedient import order
from tests.hostile.pictures import CASES, OK
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, scene

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:.*"),
]

GOOD = encode(scene())
TIMEOUT = 1.5
"""Seconds that a decoder has for an image here."""


def make_decoders(num_decoders: int = 2, timeout: float = TIMEOUT) -> DecoderPool:
    limits = ImageLimits(max_pixels=1_000_000)
    return DecoderPool(num_decoders, limits, timeout=timeout, factory="tests.hostile.obedient:load")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[Running]:
    decoder = make_decoders()
    async with serving(decoder=decoder) as running:
        await until(lambda: decoder.is_ready)
        yield running
        await until(lambda: decoder.is_idle)


def deaths(running: Running) -> int:
    decoder = running.engine.decoder
    assert isinstance(decoder, DecoderPool)
    return sum(replica.num_deaths for replica in decoder.replicas)


async def attempt(running: Running, text: str) -> str:
    """``done`` or ``refused``: what came of it, inside a decoder."""
    reply = await running.infer(order(GOOD, f"try {text}"))
    assert reply.status_code == 200, reply.text
    return {1: "done", 2: "refused"}[reply.json()["image"]["width"]]


async def test_what_a_decoder_may_not_do_is_refused(running: Running, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "file").chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        forbidden = [
            "read /etc/shadow", "read /etc/hostname", f"read {tmp_path}/file", f"write {tmp_path}/file",
            f"write {tmp_path}/new", f"remove {tmp_path}/file", "list /", f"connect {port}", "socket", "pipe", "fork",
            "exec /bin/true", f"signal {os.getpid()}", "raise_limit", "become_root", f"ptrace {os.getpid()}", "unshare",
        ]  # fmt: skip
        outcomes = {text: await attempt(running, text) for text in forbidden}
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {text for text, outcome in outcomes.items() if outcome == "done"} == set()
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_bytes() == b"x"
    assert await attempt(running, "nothing") == "done", "the attempts themselves work"


@pytest.mark.parametrize("name", ["segfault", "abort", "exit", "leave", "loop"])
async def test_what_ends_a_decoder_costs_its_own_request_a_422_and_nobody_else_anything(
    running: Running, name: str
) -> None:
    before = deaths(running)
    killer = asyncio.create_task(running.infer(order(GOOD, name)))
    neighbours = await asyncio.gather(*(running.infer(GOOD) for _ in range(8)))
    reply = await killer
    assert reply.status_code == 422 and error_of(reply) == "image_unprocessable"
    assert [neighbour.status_code for neighbour in neighbours] == [200] * 8
    assert deaths(running) > before
    again = time.monotonic()
    assert (await running.infer(order(GOOD, name))).status_code == 422
    assert time.monotonic() - again < TIMEOUT, "it is remembered"


@pytest.mark.parametrize("name", ["bomb", "raise"])
async def test_what_a_decoder_survives_costs_its_own_request_a_422_and_no_process(
    running: Running, name: str
) -> None:
    before = deaths(running)
    replies = await asyncio.gather(running.infer(order(GOOD, name)), running.infer(GOOD))
    assert [reply.status_code for reply in replies] == [422, 200]
    error_of(replies[0])
    assert deaths(running) == before


async def test_fifty_killers_among_good_images_take_nothing_from_them(running: Running) -> None:
    async def ask_well() -> list[int]:
        return [(await running.infer(GOOD)).status_code for _ in range(20)]

    killers = [running.infer(order(GOOD, f"segfault{number}")) for number in range(50)]
    *good, replies = await asyncio.gather(*(ask_well() for _ in range(3)), asyncio.gather(*killers))
    assert good == [[200] * 20] * 3
    assert [reply.status_code for reply in replies] == [422] * 50


async def test_killers_with_nothing_in_between_do_not_close_the_door_behind_them(running: Running) -> None:
    killers = (running.infer(order(GOOD, f"abort{number}")) for number in range(8))
    assert {reply.status_code for reply in await asyncio.gather(*killers)} == {422}
    assert (await running.infer(GOOD)).status_code == 200
    assert (await running.client.get("/healthz")).status_code == 200


async def test_every_sound_picture_of_the_catalogue_is_the_same_as_by_threads_and_ends_no_decoder() -> None:
    limits = ImageLimits()
    threads, decoder = Decoder(1, limits), DecoderPool(1, limits)
    decoder.start()
    wrong = []
    for name in (name for name, hostile in CASES.items() if OK in hostile.codes):
        encoded = CASES[name].make()
        there, here = [await outcome(each, encoded) for each in (decoder, threads)]
        if there != here or there[0] not in CASES[name].codes:
            wrong.append((name, there[0], here[0]))
    assert wrong == [] and decoder.is_idle
    assert [replica.num_deaths for replica in decoder.replicas] == [0]
    await decoder.stop()
    threads.close()


async def outcome(decoder: ImageDecoder, encoded: bytes) -> tuple[str, Decoded | None, bytes]:
    """Code, size and pixels."""
    slot = np.zeros((64, 64, 3), np.uint8)
    try:
        decoded = await decoder.decode_into(slot, encoded, "letterbox")
    except RequestFailedError as error:
        return error.code, None, b""
    return OK, decoded, slot.tobytes()
