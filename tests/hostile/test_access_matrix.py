"""Every route that the router has, with every kind of key and every method, over a socket: who gets where.

The routes are the router's own, so that a new one is asked for here by itself; it fails until it stands in `ACCESS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import pytest_asyncio

from server.guarded_route import GuardedRoute
from tests.hostile.raw import RawConnection, RawReply, connected
from tests.server.conftest import Running, serving
from tests.server.keys import ADMIN, CLIENT, EXPIRED, WRONG, write_keys

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACCESS = {
    "/inference": "key", "/inference/batch": "key", "/models": "key", "/models/{model_id}": "key", "/models/{model_id}/load": "admin",
    "/models/{model_id}/unload": "admin", "/models/{model_id}/reload": "admin", "/healthz": "public", "/readyz": "public",
    "/v2": "key", "/v2/health/live": "public", "/v2/health/ready": "public",
    "/v2/models/{model_id}": "key", "/v2/models/{model_id}/ready": "key", "/v2/models/{model_id}/infer": "key",
    "/v2/models/{model_id}/versions/1": "key", "/v2/models/{model_id}/versions/1/ready": "key",
    "/v2/models/{model_id}/versions/1/infer": "key", "/v2/repository/index": "key",
    "/v2/repository/models/{model_id}/load": "admin", "/v2/repository/models/{model_id}/unload": "admin",
    "/livez": "public", "/metrics": "key", "/openapi.json": "key", "/docs": "key", "/docs/swagger-ui-bundle.js": "key",
    "/docs/swagger-ui.css": "key", "/docs/start.js": "key",
    "/v1/chat/completions": "key", "/v1/models": "key", "/v1/models/{model_id}": "key",
}  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
REFUSED = {
    "none": "", "wrong": f"Authorization: Bearer {WRONG}\r\n", "expired": f"X-API-Key: {EXPIRED}\r\n", "empty": "Authorization: Bearer \r\n",
    "two": f"Authorization: Bearer {CLIENT}\r\n" * 2, "two different": f"Authorization: Bearer {CLIENT}\r\nX-API-Key: {ADMIN}\r\n",
    "long": f"Authorization: Bearer {'k' * 30_000}\r\n", "loopback": "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
}  # fmt: skip
KEYS = {"client": f"Authorization: Bearer {CLIENT}\r\n", "admin": f"X-API-Key: {ADMIN}\r\n"}
OPEN = {path for path, level in ACCESS.items() if level == "public"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    keys_file: Path = write_keys(tmp_path_factory.mktemp("keys"))
    async with serving({"echo": {"loads_at_start": True}}, keys_file=keys_file) as running:
        yield running
        assert running.engine.registry.models["echo"].is_ready, "nobody has unloaded it"


class Asker:
    """Requests one after the other, on as few connections as the server allows."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._connection: RawConnection | None = None

    def ask(self, method: str, target: str, headers: str) -> RawReply:
        """HEAD's reply has a length and no body, so it has a connection of its own."""
        text = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}"
        if method == "HEAD":
            with connected(self._address) as connection:
                connection.send(f"{text}Connection: close\r\n\r\n".encode())
                return connection.reply()
        for _ in range(
            2
        ):  # the server closes after some errors, which shows only when the next request is sent
            if self._connection is None:
                self._connection = RawConnection(self._address)
            self._connection.send(f"{text}\r\n".encode())
            reply = self._connection.reply()
            if reply.headers.get("connection") == "close" or not reply.status:
                self.close()
            if reply.status:
                return reply
        return reply

    def close(self) -> None:
        if self._connection is not None:
            self._connection.socket.close()
        self._connection = None


def expected(level: str, who: str) -> str:
    """``in``, or the code of the refusal."""
    if level == "public":
        return "in"
    if who not in KEYS:
        return "unauthorized"
    return "admin_key_required" if level == "admin" and who == "client" else "in"


def outcome(method: str, reply: RawReply) -> str:
    """``in``: nothing was said of keys."""
    if reply.status not in (401, 403):
        assert reply.status, "the connection was closed without a word"
        return "in"
    assert (reply.status == 401) == (reply.headers.get("www-authenticate") == "Bearer")
    if method == "HEAD":
        return {401: "unauthorized", 403: "admin_key_required"}[reply.status]
    return reply.code


def routes_of(running: Running) -> dict[str, GuardedRoute]:
    app = running.server.config.app
    return {route.path: route for route in app.routes}  # type: ignore[union-attr]


async def test_every_route_is_listed_here_with_who_may_use_it(running: Running) -> None:
    routes = routes_of(running)
    assert all(isinstance(route, GuardedRoute) for route in routes.values())
    assert {path: route.access for path, route in routes.items()} == ACCESS


async def test_every_route_with_every_key_and_method(running: Running) -> None:
    targets = {path.format(model_id="nope"): route.access for path, route in routes_of(running).items()}

    def compare() -> Iterator[tuple[str, ...]]:
        asker = Asker(running.port)
        for target, level in targets.items():
            for method in METHODS:
                for who, headers in (REFUSED | KEYS).items():
                    reply = asker.ask(method, target, headers)
                    found = outcome(method, reply)
                    if found != expected(level, who):
                        yield method, target, who, found
        asker.close()

    assert await asyncio.to_thread(lambda: list(compare())) == []


def variants(path: str) -> list[str]:
    """Other spellings of a path: some are the same to the router, most are not."""
    return [
        "/" + path, "/." + path, path + "/", path.upper(), "/%2e" + path, f"/%{ord(path[1]):02x}" + path[2:], path + "%2f", path + "/.",
        path + ";x", path + "?/livez", path + "#/livez", path + "%00", path + "%0a", path + "%ff", "/livez/.." + path, "/livez%2f.." + path,
        "/livez/%2e%2e" + path, "/livez;" + path, "/livez?" + path, "/livez#" + path, "/livez%3f" + path, "/livez%23" + path, "\\" + path,
        path.replace("/", "%2f"), path.replace("/", "//"), "http://localhost" + path, "http://evil.example" + path, "HTTP://a:1" + path,
        "http://localhost/livez?" + path, "http://livez" + path, "http://a@livez" + path, "*", path[1:], "%252flivez" + path,
    ]  # fmt: skip


def path_of(target: str) -> str:
    """The path as the server is to understand it."""
    path = target.partition("#")[0].partition("?")[0]
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return unquote(path)


async def test_no_spelling_of_a_path_gets_around_a_key(running: Running) -> None:
    targets = [target for path in routes_of(running) for target in variants(path.format(model_id="echo"))] + [
        "/",
        "//",
        "/v1",
        "/v2",
        "/v2/health/live",
        "/v1/models",
        "/nope",
        "/.well-known/x",
        "/static/../livez",
    ]

    def compare() -> Iterator[tuple[str, ...]]:
        asker = Asker(running.port)
        for target in dict.fromkeys(targets):
            for method in ("GET", "POST"):
                for who, headers in (("none", ""), ("wrong", REFUSED["wrong"]), ("client", KEYS["client"])):
                    reply = asker.ask(method, target, headers)
                    if reply.status == 400:  # not HTTP: it never came to a route
                        continue
                    found = outcome(method, reply)
                    is_open = path_of(target) in OPEN
                    if who != "client":
                        is_right = found == ("in" if is_open else "unauthorized")
                    else:
                        is_right = found in ("in", "admin_key_required")
                        if "load" in target.lower() and method == "POST" and not is_open:
                            is_right = reply.status in (403, 404, 405)
                    if not is_right:
                        yield method, target, who, str(reply.status)
        asker.close()

    assert await asyncio.to_thread(lambda: list(compare())) == []


async def test_who_is_refused_is_not_asked_for_a_body_and_none_is_read(running: Running) -> None:
    def ask(length: int, method: str = "POST", path: str = "/inference", key: str = "") -> RawReply:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: image/jpeg\r\nContent-Length: {length}\r\n"
        with connected(("127.0.0.1", running.port)) as connection:
            connection.send(f"{head}Expect: 100-continue\r\n\r\n".encode())
            return connection.reply()

    for length in (10, 10**9):
        assert (await asyncio.to_thread(ask, length)).status == 401, "not 100, and not 413"
    reply = await asyncio.to_thread(ask, 10, "POST", "/models/echo/unload", KEYS["client"])
    assert (reply.status, reply.code) == (403, "admin_key_required")


async def test_what_a_client_says_of_itself_counts_for_nothing(running: Running) -> None:
    spoofed = "".join(
        f"{name}: 127.0.0.1\r\n"
        for name in ("X-Forwarded-For", "X-Real-IP", "True-Client-IP", "X-Original-URL", "X-Rewrite-URL")
    )
    more = (
        "X-Original-URL: /livez\r\nX-HTTP-Method-Override: GET\r\nForwarded: for=127.0.0.1\r\nCookie: key="
        + CLIENT
        + "\r\n"
    )

    def ask() -> list[int]:
        asker = Asker(running.port)
        targets = (f"/models?key={CLIENT}", f"/models?api_key={CLIENT}&access_token={CLIENT}", "/models")
        statuses = [asker.ask("GET", target, spoofed + more).status for target in targets]
        asker.close()
        return statuses

    assert await asyncio.to_thread(ask) == [401, 401, 401]


@pytest.mark.parametrize("request_id", [
    b"x" * 4096, "ünï".encode(), b'","level":"x', b"a b", b"\xff\xfe", b"${jndi:x}", b"%0d%0aX: y", b"a\tb", b"", b"a,b",
])  # fmt: skip
async def test_an_odd_request_id_is_replaced_and_stands_nowhere(
    running: Running, request_id: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def ask() -> RawReply:
        with connected(("127.0.0.1", running.port)) as connection:
            connection.send(b"GET /nope HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + request_id + b"\r\n\r\n")
            return connection.reply()

    with caplog.at_level("INFO", "server.access"):
        reply = await asyncio.to_thread(ask)
    given = reply.headers["x-request-id"]
    assert reply.code == "unauthorized" and len(given) == 32 and given.isalnum()
    assert [vars(record)["request_id"] for record in caplog.records] == [given]


@pytest.mark.parametrize("request_id", [b"a\x1b[31mred", b"a\x00", b"a\r\n b: c", b"a\x7f"])
async def test_a_request_id_with_control_characters_or_of_several_lines_is_no_request(
    running: Running, request_id: bytes
) -> None:
    def ask() -> RawReply:
        with connected(("127.0.0.1", running.port)) as connection:
            connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + request_id + b"\r\n\r\n")
            return connection.reply()

    assert (await asyncio.to_thread(ask)).status == 400
