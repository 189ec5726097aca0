"""`GET /events`: one snapshot for all, as long as somebody watches, and nobody is waited for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from server.events import Events
from server.gate import Gate
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, scene


def events_of(running: Running) -> Events:
    app: Any = running.server.config.app
    (route,) = [route for route in app.routes if route.path == "/events"]
    endpoint: Events = route.endpoint
    endpoint._interval = 0.05
    return endpoint


async def snapshots(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield orjson.loads(line.removeprefix("data: "))


async def test_all_viewers_share_one_snapshot_and_none_is_made_for_nobody() -> None:
    async with serving({"echo": {"loads_at_start": True}}) as running:
        events = events_of(running)
        url = f"http://127.0.0.1:{running.port}/events"
        async with (
            httpx.AsyncClient() as client,
            client.stream("GET", url) as one,
            client.stream("GET", url) as two,
        ):
            assert one.headers["content-type"].startswith("text/event-stream")
            first, second = snapshots(one), snapshots(two)
            await anext(first)
            before = events.num_made
            for _ in range(3):
                await anext(first)
                newest = await anext(second)
            assert events.num_made - before <= 6, "not one for each viewer"
            assert newest["viewers"] == 2 and newest["requests_in_flight"] == 0
            (model,) = newest["models"]
            assert model["model_id"] == "echo" and model["state"] == "ready"
            assert [replica["state"] for replica in model["replicas"]] == ["ready"]
        await until(lambda: events.num_viewers == 0)
        assert events._ticking is None


async def test_an_answer_shows_as_rate_and_latency() -> None:
    async with serving({"echo": {"loads_at_start": True}}) as running:
        events_of(running)
        async with running.client.stream("GET", "/events") as answer:
            seen = snapshots(answer)
            assert (await anext(seen))["models"][0]["answered"] == 0
            assert (await running.infer(encode(scene()))).status_code == 200
            async for snapshot in seen:
                model = snapshot["models"][0]
                if model["latency_ms"] is not None:
                    break
            assert model["answered"] == 1 and model["per_second"] > 0 and model["latency_ms"] > 0


async def test_more_viewers_than_allowed_are_refused_and_head_has_no_stream() -> None:
    async with serving({"echo": {}}, max_viewers=1) as running:
        events = events_of(running)
        async with running.client.stream("GET", "/events") as answer:
            await anext(snapshots(answer))
            refused = await running.client.get("/events")
            assert (refused.status_code, error_of(refused)) == (503, "overloaded")
        await until(lambda: events.num_viewers == 0)
        assert (await running.client.head("/events")).content == b""


async def test_a_stream_ends_in_order_when_the_engine_leaves_and_none_begins_then() -> None:
    async with serving({"echo": {}}) as running:
        events_of(running)._interval = 60.0
        async with running.client.stream("GET", "/events") as answer:
            seen = snapshots(answer)
            await anext(seen)
            started = time.monotonic()
            running.engine.leave()
            assert [snapshot async for snapshot in seen] == []
            assert time.monotonic() - started < 1.0
        refused = await running.client.get("/events")
        assert (refused.status_code, error_of(refused)) == (503, "shutting_down")


async def test_a_stream_ends_after_a_while_so_that_a_key_is_asked_for_again() -> None:
    async with serving({"echo": {}}) as running:
        events_of(running)._max_watch = 0.1
        assert (await running.client.get("/events")).status_code == 200


async def test_a_quiet_stream_outlives_every_timeout_and_a_stalled_reader_does_not() -> None:
    """Of 0.3 s each. What a stalled reader was not sent is not kept for it."""
    timeouts = {"send_timeout": 0.3, "header_timeout": 0.3, "receive_timeout": 0.3}
    async with serving({"echo": {}}, **timeouts) as running:
        events = events_of(running)
        async with running.client.stream("GET", "/events") as answer:
            events._interval = 0.5
            seen = snapshots(answer)
            for _ in range(4):
                await anext(seen)
        await until(lambda: events.num_viewers == 0)

        events._interval = 0.001
        events._take = lambda: setattr(events, "_newest", b"data: " + b"x" * 100_000 + b"\n\n")  # type: ignore[method-assign]
        with socket.create_connection(("127.0.0.1", running.port)) as stalled:
            stalled.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
            gate = running.server.config.http_protocol_class
            assert isinstance(gate, Gate)
            await until(lambda: len(gate._stalled) == 1)
            await asyncio.sleep(0.1)
            assert gate._num_unsent_bytes < 1_000_000
            await until(lambda: events.num_viewers == 0, timeout=5.0)


@pytest.mark.parametrize("value", ["-1", "many"])
def test_a_wrong_number_of_viewers_is_refused(value: str) -> None:
    from pydantic import ValidationError

    from server.settings import Settings

    with pytest.raises(ValidationError):
        Settings(max_viewers=value)  # type: ignore[arg-type]
