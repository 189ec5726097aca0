"""The checker is checked: each way in which a server can wrong a client is seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from bench.chaos.asking import Clients
from bench.chaos.journal import LOST, RIGHT, WRONG, Asked, Journal
from bench.chaos.questions import CalmPictures, NumberedPictures

Answer = Callable[[str, int, asyncio.StreamWriter], Awaitable[None]]


def reply(request_id: str, crc: int, status: int = 200, code: str = "") -> bytes:
    body = json.dumps({"request_id": request_id, "crc": crc, "error": {"code": code}}).encode()
    head = f"HTTP/1.1 {status} X\r\nX-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def right(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request_id, crc))


async def others_answer(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request_id, crc + 1))


async def others_id(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply("somebody-0", crc))


async def none(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def half(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request_id, crc)[:-3])
    await writer.drain()
    writer.close()


async def twice(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request_id, crc) * 2)


async def broken(request_id: str, crc: int, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(request_id, crc, 500, "internal"))


async def asked(answer: Answer) -> Journal:
    """One question to a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request_id = head.partition("X-Request-Id: ")[2].split()[0]
        await answer(request_id, source.question(7, request_id).key, writer)
        await reader.read()  # until the client has hung up
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    ended = asyncio.Event()
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        source = NumberedPictures(url, "fake", 8)
        clients = Clients(url, source, "test")
        await clients.ask(7, 0.0)
        clients.hang_up()
        await asyncio.wait_for(ended.wait(), 20)
    return clients.journal


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (right, RIGHT),
        (others_answer, WRONG),
        (others_id, WRONG),
        (none, LOST),
        (half, LOST),
        (broken, "internal"),
    ],
)
async def test_every_wrong_is_called_by_its_name(answer: Answer, outcome: str) -> None:
    journal = await asked(answer)
    assert journal.outcomes == {outcome: 1}
    assert journal.num_server_errors == (outcome == "internal")
    assert journal.num_unasked == 0


async def test_a_second_reply_is_counted() -> None:
    journal = await asked(twice)
    assert (journal.outcomes, journal.num_unasked) == ({RIGHT: 1}, 1)


def test_a_real_detector_whose_answers_are_alike_proves_nothing() -> None:
    box = {"x1": 1.0, "y1": 1.0, "x2": 9.0, "y2": 9.0}
    answer = [{"label": "circle", "confidence": 0.9, "box": box}]
    with pytest.raises(ValueError, match="cannot be told"):
        CalmPictures("http://x", "m", [b"1", b"2"], [answer, answer])


def test_errors_that_were_due_are_no_server_errors() -> None:
    due = Asked(1, "a", 0.0, 0.0, 1.0, 503, RIGHT)
    assert Journal([due]).num_server_errors == 0
