"""Names of models and paths that strangers make up: they are looked up in a table and never opened, fetched or counted."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Message, Scope

from server.app import create_app
from server.engine import Engine
from server.settings import Settings
from tests.hostile.raw import connected, exchange
from tests.hostile.target import SAMPLE, Target

NAMES = (
    "", " ", ".", "..", "../../etc/passwd", "..\\..\\x", "/etc/passwd", "/tmp/x.pt", "file:///etc/passwd", "https://evil.example/x.pt",
    "shapes-detect ", " shapes-detect", "shapes-detect.", "SHAPES-DETECT", "shapes-detect.pt", "shapes-detect\x00", "shapes-detect\n", "ѕhapes-detect",
    "shapes\u2010detect", "%73hapes-detect", "shapes-detect/../shapes-detect", "package:demo", "__class__", "{subject}", "${jndi:ldap://x}", "'; --",
    "\u202eshapes", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "x" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_is_not_in_the_table_is_not_found(target: Target, name: str) -> None:
    replies = [
        target.client.post("/inference", json={"model_id": name, "image_base64": "QQ=="}),
        target.client.post("/inference", data={"model_id": name}, files={"image": SAMPLE.read_bytes()}),
    ]
    if len(name) < 1000:
        replies.append(target.infer(b"x", model_id=name))
    for reply in replies:
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
    for method, end in (("GET", ""), ("POST", "/load"), ("POST", "/unload"), ("POST", "/reload")):
        if 0 < len(name) < 1000 and name not in (".", ".."):
            reply = target.client.request(method, f"/models/{quote(name, safe='')}{end}")
            assert (reply.status_code, reply.json()["error"]["code"][-9:]) == (404, "not_found")


def series(page: str) -> set[tuple[str, ...]]:
    """Names of all series, with their labels."""
    return {
        (sample.name, *sample.labels.values())
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def made_up(random_: random.Random, num_requests: int) -> Iterator[Scope]:
    """Requests whose every word is new, to no port."""
    for number in range(num_requests):
        word = f"{random_.getrandbits(64):x}"
        path = random_.choice(["/{}", "/models/{}", "/models/{}/load", "/inference", "/inference/{}"]).format(
            word
        )
        yield {
            "type": "http", "http_version": "1.1", "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "",
            "method": random_.choice(["GET", "POST", f"M{number}"]), "query_string": b"model_id=" + word.encode(), "client": (word, number),
            "headers": [(b"x-request-id", word.encode()), (b"authorization", b"Bearer " + word.encode()), (b"content-type", b"image/" + word.encode()),
                        (b"host", word.encode()), (b"x-api-key", word.encode())],
        }  # fmt: skip


@pytest.mark.parametrize("num_requests", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_made_up_requests_make_no_series(num_requests: int) -> None:
    engine = Engine(Settings(load_at_start=[], cuda_visible_devices=""))
    app = create_app(engine=engine)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    statuses: set[int] = set()
    counts = []
    random_ = random.Random(5)
    try:
        for _ in range(2):
            for scope in made_up(random_, num_requests // 2):
                await app(scope, receive, send)
            counts.append(series(generate_latest(engine.metrics.registry).decode()))
    finally:
        await engine.decoder.stop()
    assert counts[0] == counts[1]
    assert len(statuses) > 1 and statuses <= {400, 401, 403, 404, 405, 429}
    requests = [name for name, *_ in counts[1] if name == "engine_requests_total"]
    assert len(statuses) <= len(requests) <= 4 * len(statuses)


def test_the_log_of_a_real_server_stays_one_line_for_each_request(target: Target) -> None:
    """Whatever stands in it, and without what is asked."""
    words = [
        "a\nb",
        "\x1b[31mred",
        "\u2028\u2029\u0085",
        "\u202e",
        '"}\n{"event":"forged"}',
        "%0d%0aevil",
        "\x7f\x9b",
        "x" * 5000,
    ]
    before = len(target.server.log.read_bytes())
    for word in words:
        target.client.get(f"/{quote(word)[:6000]}", headers={"x-request-id": "?", "user-agent": repr(word)})
        target.client.get("/inference", params={"prompt": f"my secret {word[:500]}"})
        target.infer(b"x", prompt=f"my secret {word[:500]}")
    with connected(target.address) as connection:
        connection.send("GET /raw\u202e HTTP/1.1\r\nHost: x\r\nX-Request-Id: \x1b[31m\r\n\r\n".encode())
        connection.reply()
    for position in range(100, 4100, 200):  # libraries in C would write to the same descriptor
        picture = bytearray(SAMPLE.read_bytes())
        picture[position : position + 40] = bytes(40)
        target.infer(bytes(picture[: -(position % 7)] if position % 7 else picture))
        target.infer(b"\x89PNG\r\n\x1a\n" + bytes(picture[:position]), "image/png")
    written = target.server.log.read_bytes()[before:].decode()
    lines = [line for line in written.split("\n") if line]
    assert written.isascii() or all(line.isprintable() for line in lines)
    assert len(written.splitlines()) == len(lines) >= 3 * len(words)
    assert "secret" not in written, "questions are their asker's"
    for line in lines:
        fields = json.loads(line)
        assert all(len(value) <= 300 for value in fields.values() if isinstance(value, str))
        assert fields["event"] != "forged"


def test_a_few_hundred_names_over_sockets_make_no_series(target: Target) -> None:
    def count() -> set[tuple[str, ...]]:
        """Without those that are there while there is something to say of a worker."""
        every = series(target.client.get("/metrics").text)
        return {each for each in every if not each[0].startswith("engine_worker_")}

    def ask(number: int) -> httpx.Response:
        return target.client.request(f"M{number % 7}", f"/models/{number:x}", params={"model_id": number})

    target.client.get("/metrics")
    for number in range(20):
        ask(number)
        target.infer(b"x", model_id=f"y{number}")
    before = count()
    for number in range(1000, 1200):
        ask(number)
        target.infer(b"x", model_id=f"y{number}")
    assert count() == before


def test_garbage_on_connections_does_not_flood_the_log(target: Target) -> None:
    before = len(target.server.log.read_bytes())
    started = time.monotonic()
    for _ in range(300):
        exchange(target.address, b"GARBAGE\x1b[31m\r\n\r\n")
    num_seconds = int(time.monotonic() - started) + 2
    written = target.server.log.read_bytes()[before:].decode()
    lines = [json.loads(line) for line in written.split("\n") if line]
    assert sum(line["level"] in ("warning", "error") for line in lines) <= 10 * num_seconds
    assert all("GARBAGE" not in line["event"] for line in lines)
