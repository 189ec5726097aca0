"""`image_url` through the whole server over HTTP: who is asked is written down, and what must not be asked is not.

The names and the way to them are made up (tests/server/origin.py), the guard is the real one; test_internet.py has
nothing made up.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from server.dial import GuardedBackend
from server.fetch import Fetcher
from server.inference import Inference
from server.loop_guard import FETCH_HEADER
from server.reach import Reach, read_domain
from server.resolver import MAX_LOOKUPS, Resolver
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, noise, scene
from tests.server.origin import PUBLIC, Origin, redirect, response, running_origin

IMAGE = encode(scene())
PICTURE = encode(noise(64, 64))
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    """One server for all; `fetching` gives it an internet."""
    async with serving() as one:
        yield one


@contextlib.asynccontextmanager
async def fetching(running: Running, reach: Reach | None = None) -> AsyncIterator[Origin]:
    async with running_origin() as origin:
        origin.answers["/a.png"] = response(IMAGE)
        running.engine._fetcher = Fetcher(1_000_000, 64, origin.backend(reach), reach=reach)
        yield origin
        await running.engine._fetcher.close()


async def ask(running: Running, url: str, **fields: Any) -> httpx.Response:
    return await running.client.post("/inference", json={"model_id": "echo", "image_url": url, **fields})


def internal(origin: Origin) -> None:
    """The names and redirects that lead where nobody may go."""
    origin.names |= {
        "private.example": ["10.1.2.3"], "mixed.example": [PUBLIC, "127.0.0.1"], "mixed2.example": ["::1", PUBLIC],
        "metadata.google.internal": ["169.254.169.254"], "many.example": [f"93.184.215.{n}" for n in range(100)],
        "mapped.example": ["::ffff:169.254.169.254"],
    }  # fmt: skip
    places = ("http://127.0.0.1/", "http://169.254.169.254/", "http://[::1]/", "file:///etc/passwd", DATA_URL)
    origin.answers |= {f"/to/{number}": redirect(place) for number, place in enumerate(places)}


REFUSED = [
    "", "file:///etc/passwd", "gopher://images.example/", "ftp://images.example/", "//images.example/", "http:images.example",
    "http://images.example/" + "a" * 3000, "http://127.0.0.1", "http://localhost", "http://0", "http://127.1", "http://2130706433",
    "http://0x7f.1", "http://0x7f000001", "http://017700000001", "http://0177.0.0.1", "http://[::1]", "http://[::ffff:127.0.0.1]",
    "http://[::127.0.0.1]", "http://[64:ff9b::7f00:1]", "http://[2002:7f00:1::]", "http://[fe80::1%25eth0]", "http://[fd00:ec2::254]",
    "http://169.254.169.254", "http://168.63.129.16", "http://100.100.100.200", "http://metadata.google.internal/",
    "http://ok@127.0.0.1/", "http://127.0.0.1:80\\@images.example/", "http://user:pass@images.example/", "http://" + "a" * 300,
    "http://a..b/", "http://-/", "http://.../", "http://xn--/", "http://images.example:22/", "http://images.example:6379/",
    "http://images.example:99999/", "http://images.example:0/", "http://private.example/", "http://mixed.example/",
    "http://mixed2.example/", "http://mapped.example/", "http://many.example/", "http://127\u30020\u30020\u30021/",
    "DATA:image/png;base64,QQ==", "data:image/png;charset=x;base64,QQ==", "data:image/svg+xml;base64,QQ==", "data:,x",
    "data:image/png,QQ==", " data:image/png;base64,QQ==", "data:image/png;base64;base64,QQ==", "http://\U0001f600/",
]  # fmt: skip


async def test_what_must_not_be_fetched_is_refused_and_nobody_is_reached(running: Running) -> None:
    async with fetching(running) as origin:
        internal(origin)
        for url in REFUSED:
            reply = await ask(running, url)
            assert reply.status_code in (400, 422), (url, reply.text)
            expected = {"invalid_image_url", "image_url_not_allowed", "image_fetch_failed"}
            assert error_of(reply) in expected, (url, reply.text)
        assert (origin.hits, origin.dials) == ([], [])
        assert (await ask(running, "http://images.example/a.png")).status_code == 200


async def test_redirects_lead_nowhere_else(running: Running) -> None:
    async with fetching(running) as origin:
        internal(origin)
        for number in range(5):
            reply = await ask(running, f"http://images.example/to/{number}")
            assert error_of(reply) in ("image_url_not_allowed", "image_fetch_failed"), reply.text
        assert set(origin.dials) == {PUBLIC}
        assert [hit.split()[1] for hit in origin.hits] == [f"/to/{number}" for number in range(5)]


async def test_a_data_url_is_the_image_itself_whatever_may_be_fetched() -> None:
    async with serving(image_url="off") as running:
        reply = await ask(running, DATA_URL)
        raw = await running.infer(PICTURE)
        assert len(DATA_URL) > 2048, "it is no address"
        assert (reply.status_code, reply.json()["crc"]) == (200, raw.json()["crc"])
        for text, code in {"": "empty_body", "Q": "invalid_base64", "QQ==\n": "invalid_base64"}.items():
            assert error_of(await ask(running, "data:image/png;base64," + text)) == code
        assert error_of(await ask(running, "http://images.example/")) == "image_url_disabled"
        assert running.engine._fetcher is None


async def test_only_listed_domains_are_asked_for_and_only_they_are_looked_up(running: Running) -> None:
    reach = Reach((read_domain("images.example."), read_domain("*.Bücher.example")))
    async with fetching(running, reach) as origin:
        origin.names |= {"a.b.xn--bcher-kva.example": [PUBLIC], "sly.xn--bcher-kva.example": ["10.0.0.1"]}
        origin.answers["/to"] = redirect("http://other.example/a.png")
        for url in (
            "http://images.example/a.png",
            "http://IMAGES.example/a.png",
            "http://a.b.B\u00fccher.example/a.png",
        ):
            assert (await ask(running, url)).status_code == 200, url
        origin.lookups.clear()
        for url in (
            "http://other.example/a.png", "http://notimages.example/", "http://images.example.evil.example/", "http://x.images.example/",
            "http://b\u00fccher.example/", "http://evilb\u00fccher.example/", f"http://{PUBLIC}/", "http://images.example:8080/",
        ):  # fmt: skip
            assert error_of(await ask(running, url)) == "image_url_not_allowed", url
        assert origin.lookups == []
        assert error_of(await ask(running, "http://images.example/to")) == "image_url_not_allowed"
        assert error_of(await ask(running, "http://sly.b\u00fccher.example/")) == "image_url_not_allowed"
        assert set(origin.dials) == {PUBLIC}


async def test_what_a_fetching_server_asks_for_is_refused_so_nothing_goes_round(running: Running) -> None:
    async with fetching(running) as origin:
        origin.port = running.port  # the public name of the service
        reply = await ask(running, "http://images.example/models")
        assert (error_of(reply), origin.dials) == ("image_fetch_failed", [PUBLIC])
        assert "status" in reply.json()["error"]["message"]
        reply = await running.client.get("/models", headers={FETCH_HEADER.decode(): "1"})
        assert (reply.status_code, error_of(reply)) == (400, "image_url_not_allowed")
        assert (await running.client.get("/models")).status_code == 200


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def test_a_dripping_origin_holds_no_model_and_delays_no_request_that_brings_its_image(
    running: Running,
) -> None:
    async with fetching(running) as origin:
        origin.answers["/drip"] = drip
        origin.names["other.example"] = [PUBLIC]
        calm = await latencies(running)
        stuck = [asyncio.create_task(post(running.port, "http://images.example/drip")) for _ in range(200)]
        # half of the room for waiting, eight of them downloading; the others are refused at once
        await until(lambda: len(origin.hits) == 8 and sum(task.done() for task in stuck) == 200 - 128)
        assert all(b'"overloaded"' in task.result() for task in stuck if task.done())
        served = running.engine.registry.models["echo"]
        assert served.num_users == 0, "the model may be unloaded, reloaded, or make room"
        assert running.pool("echo").is_idle
        beside = await latencies(running)
        assert (await ask(running, "http://other.example/a.png")).status_code == 200, "nor another host's"
        assert (len(origin.hits), sum(task.done() for task in stuck)) == (9, 200 - 128), "eight drip on"
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
        # a hold-up would be seconds; the factor leaves room for a machine that does other things
        assert beside[len(beside) // 2] < 5 * calm[len(calm) // 2] + 0.05


async def test_name_servers_that_say_nothing_delay_no_request_that_brings_its_image(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_answer, real = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".dead.example"):
            may_answer.wait(30)
            raise socket.gaierror("no answer")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver = Resolver()
    async with fetching(running):
        running.engine._fetcher = Fetcher(1_000_000, 70, GuardedBackend(resolver))
        stuck = [asyncio.create_task(post(running.port, f"http://{n}.dead.example/")) for n in range(70)]
        await until(lambda: resolver.num_lookups == MAX_LOOKUPS and sum(task.done() for task in stuck) == 6)
        assert all(b'"overloaded"' in task.result() for task in stuck if task.done())
        await latencies(running, 5)
        may_answer.set()
        done, _ = await asyncio.wait(stuck, timeout=20)
        assert sum(b"could not be fetched: dns" in task.result() for task in done) == 64
        assert resolver.num_lookups == 0


async def test_a_download_is_its_keys(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async with fetching(running) as origin:
        fetcher = running.engine._fetcher
        assert fetcher is not None
        owners: list[str] = []

        async def fetch(url: str, grow: object, timeout: float, owner: str) -> bytes:
            owners.append(owner)
            return IMAGE

        monkeypatch.setattr(fetcher, "fetch", fetch)
        body = json.dumps({"model_id": "echo", "image_url": "http://images.example/a.png"}).encode()
        state = {"request_id": "r", "started_at": 0.0}
        messages = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        statuses: list[Any] = []
        scope = {"type": "http", "headers": [(b"content-type", b"application/json")], "query_string": b""}
        await Inference(running.engine)({**scope, "state": {**state, "key_id": "one"}}, receive, send)
        assert (statuses[0], owners, origin.hits) == (200, ["one"], [])


async def post(port: int, url: str) -> bytes:
    """The whole reply to a request for an image by its address, on a connection of its own."""
    body = json.dumps({"model_id": "echo", "image_url": url}).encode()
    head = f"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        return await reader.read()
    finally:
        writer.close()


async def latencies(running: Running, num_requests: int = 40) -> list[float]:
    """Seconds, sorted."""
    seconds = []
    body = {"model_id": "echo", "image_base64": base64.b64encode(IMAGE).decode()}
    for _ in range(num_requests):
        started = time.monotonic()
        assert (await running.client.post("/inference", json=body)).status_code == 200
        seconds.append(time.monotonic() - started)
    return sorted(seconds)


async def test_a_client_that_leaves_ends_its_download(running: Running) -> None:
    async with fetching(running) as origin:
        origin.answers["/drip"] = drip
        task = asyncio.create_task(ask(running, "http://images.example/drip"))
        await until(lambda: running.engine.budget.num_bytes > 0 and bool(origin.hits))
        task.cancel()
        await until(lambda: running.engine.budget.num_bytes == 0)


async def test_what_is_refused_anyway_costs_no_download_and_downloads_count_as_bodies() -> None:
    limits = {"max_in_flight_bytes": 60_000, "max_body_bytes": 50_000, "max_json_bytes": 50_000}
    async with serving(on_demand="off", **limits) as running, fetching(running) as origin:
        reply = await ask(running, "http://images.example/a.png", model_id="ask")
        assert (reply.status_code, error_of(reply)) == (503, "model_unavailable")
        reply = await ask(running, "http://images.example/a.png", parameters={"confidence": 2})
        assert (reply.status_code, error_of(reply)) == (400, "invalid_parameter")
        assert origin.lookups == []
        origin.answers["/large"] = response(bytes(100_000))
        reply = await ask(running, "http://images.example/large")
        assert (reply.status_code, error_of(reply)) == (503, "overloaded")
