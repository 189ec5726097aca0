"""What is refused, when, and that a client can read it: bodies, budgets, queues, deadlines, and the end."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import orjson

from pool import Limits
from server.fetch import Fetcher
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, noise, scene
from tests.server.origin import response, running_origin

IMAGE = encode(scene())
BASE64 = base64.b64encode(IMAGE).decode()


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send all pieces, then read until the server closes or 20 s have passed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_a_declared_excess_is_refused_before_the_body_and_can_be_read() -> None:
    async with serving(max_body_bytes=2 * 2**20) as running:
        start = head("/inference?model_id=echo", "Content-Type: image/png", f"Content-Length: {10**9}")
        answer = await exchange(running.port, start, bytes(500_000))
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        assert b"body_too_large" in answer
        expecting = head(
            "/inference?model_id=echo",
            "Content-Type: image/png",
            f"Content-Length: {10**9}",
            "Expect: 100-continue",
        )
        answer = await exchange(running.port, expecting)
        assert answer.startswith(b"HTTP/1.1 413"), "no 100 Continue before it"


async def test_an_undeclared_excess_is_refused_once_counted() -> None:
    async with serving(max_body_bytes=100_000) as running:
        start = head("/inference?model_id=echo", "Content-Type: image/png", "Transfer-Encoding: chunked")
        chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
        answer = await exchange(running.port, start, *[chunk] * 20)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"body_too_large" in answer


async def test_each_kind_of_body_has_its_limit() -> None:
    async with serving(max_body_bytes=4096, max_json_bytes=8192) as running:
        assert error_of(await running.infer(bytes(4097))) == "body_too_large"
        large = {"model_id": "echo", "image_base64": base64.b64encode(bytes(5000)).decode()}
        for fields in (large, {**large, "prompt": "x" * 4000}):
            answer = await running.client.post("/inference", json=fields)
            assert (answer.status_code, error_of(answer)) == (413, "body_too_large")
        answer = await running.client.post(
            "/inference", data={"model_id": "echo"}, files={"image": bytes(4097)}
        )
        assert (answer.status_code, error_of(answer)) == (413, "body_too_large")


async def test_a_small_refused_body_leaves_the_connection_usable() -> None:
    async with serving(max_body_bytes=4096) as running:
        request = head("/inference?model_id=nope", "Content-Type: image/png", "Content-Length: 3000") + bytes(
            3000
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(3):
            writer.write(request)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert b" 404 " in answer and b"connection: close" not in answer
            length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()


async def test_bodies_in_flight_have_a_budget() -> None:
    async with serving(max_body_bytes=50_000, max_json_bytes=50_000, max_in_flight_bytes=60_000) as running:
        _, slow = await asyncio.open_connection("127.0.0.1", running.port)
        slow.write(
            head("/inference?model_id=echo", "Content-Type: image/png", "Content-Length: 50000")
            + bytes(40_000)
        )
        await until(lambda: running.engine.budget.num_bytes >= 40_000)
        answer = await running.infer(bytes(30_000))
        assert (answer.status_code, error_of(answer)) == (503, "overloaded")
        assert (await running.infer(IMAGE)).status_code == 200, "what fits is served"
        slow.transport.abort()
        await until(lambda: running.engine.budget.num_bytes == 0)


async def test_a_full_queue_is_refused_before_the_raw_body_is_read(tmp_path: Path) -> None:
    async with serving(
        limits=Limits(max_queue_size=2, num_extra_slots=0, max_batch_size=1), max_body_bytes=2 * 2**20
    ) as running:
        marker = tmp_path / "go"
        fields = {"model_id": "ask", "prompt": "hello", "image_base64": BASE64}
        assert (await running.client.post("/inference", json=fields)).status_code == 200
        fields["prompt"] = f"wait {marker}"
        waiting = [asyncio.create_task(running.client.post("/inference", json=fields)) for _ in range(3)]
        await until(lambda: running.pool("ask").snapshot()["queue_length"] == 2)
        answer = await running.client.post("/inference", json=fields)
        assert (answer.status_code, error_of(answer)) == (503, "queue_full")
        start = head("/inference?model_id=ask&prompt=x", "Content-Type: image/png", "Content-Length: 2000000")
        answer_bytes = await exchange(running.port, start)  # nothing of the body is ever sent
        assert answer_bytes.startswith(b"HTTP/1.1 503")
        assert b"retry-after: " in answer_bytes
        marker.touch()
        assert {(await task).status_code for task in waiting} == {200}


async def test_a_request_that_is_not_answered_in_time_is_given_up(tmp_path: Path) -> None:
    async with serving(deadline=0.3) as running:
        marker = tmp_path / "go"
        fields = {"model_id": "ask", "prompt": "hello", "image_base64": BASE64}
        assert (await running.client.post("/inference", json=fields)).status_code == 200
        answers = await asyncio.gather(*(
            running.client.post("/inference", json={**fields, "prompt": f"wait {marker}"}) for _ in range(2)
        ))  # fmt: skip
        marker.touch()
        assert {(answer.status_code, error_of(answer)) for answer in answers} == {(504, "deadline_exceeded")}
        assert "retry-after" not in answers[0].headers


async def test_images_by_url_are_fetched_answered_and_timed() -> None:
    async with running_origin() as origin:
        origin.answers |= {
            "/a.png": response(IMAGE),
            "/b.png": response(b"<html>"),
            "/c.png": response(b"", "404 Not Found"),
        }
        async with serving(fetcher=Fetcher(10_000_000, 4, origin.backend())) as running:
            fields = {"model_id": "echo", "image_url": "http://images.example/a.png"}
            answer = await running.client.post("/inference", json=fields)
            assert answer.status_code == 200, answer.text
            assert answer.json()["timings_ms"]["fetch"] > 0
            for name, expected in {
                "b": "image_undecodable",
                "c": "image_fetch_failed",
                "no": "image_fetch_failed",
            }.items():
                answer = await running.client.post(
                    "/inference", json={**fields, "image_url": f"http://images.example/{name}.png"}
                )
                assert (answer.status_code, error_of(answer)) == (422, expected)
            assert "status" in answer.json()["error"]["message"]


async def test_fetching_by_url_can_be_switched_off() -> None:
    async with serving(image_url="off") as running:
        answer = await running.client.post(
            "/inference", json={"model_id": "echo", "image_url": "http://images.example/a"}
        )
        assert (answer.status_code, error_of(answer)) == (400, "image_url_disabled")


async def test_requests_in_flight_are_answered_when_the_server_stops(tmp_path: Path) -> None:
    marker = tmp_path / "go"
    fields = {"model_id": "ask", "prompt": "hello", "image_base64": BASE64}
    async with serving() as running:
        await running.client.post("/inference", json=fields)
        waiting = [
            asyncio.create_task(
                running.client.post("/inference", json={**fields, "prompt": f"wait {marker}"})
            )
            for _ in range(5)
        ]
        await until(lambda: sum(s.num_users for s in running.engine.registry.models.values()) == 5)
        running.server.should_exit = True
        await until(lambda: not running.server.servers[0].is_serving())
        marker.touch()
        answers = await asyncio.gather(*waiting)
        assert {answer.status_code for answer in answers} == {200}


async def test_who_outlasts_the_drain_is_told(tmp_path: Path) -> None:
    fields = {"model_id": "ask", "prompt": "hello", "image_base64": BASE64}
    async with serving(drain_timeout=1.0) as running:
        running.server.config.timeout_graceful_shutdown = 1
        await running.client.post("/inference", json=fields)
        waiting = asyncio.create_task(
            running.client.post("/inference", json={**fields, "prompt": "sleep 20"})
        )
        await until(lambda: running.pool("ask").snapshot()["in_flight"] == 1)
        running.server.should_exit = True
        answer = await waiting
        assert (answer.status_code, error_of(answer)) == (503, "shutting_down")


async def test_a_budget_never_leaks_over_many_aborted_requests() -> None:
    async with serving() as running:
        await asyncio.gather(*(_abort(running, cut) for cut in range(0, 3000, 60)))
        await until(lambda: running.engine.budget.num_bytes == 0)
        assert (await running.infer(IMAGE)).status_code == 200


async def _abort(running: Running, cut: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = orjson.dumps(
        {"model_id": "echo", "image_base64": base64.b64encode(encode(noise(32, 16))).decode()}
    )
    start = head("/inference", "Content-Type: application/json", f"Content-Length: {len(body)}")
    writer.write((start + body)[:cut])
    await asyncio.sleep(0)
    writer.transport.abort()
