from __future__ import annotations

from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from server.cors import Cors, Preflights
from server.scrape import Scrape
from server.settings import Settings
from tests.server.conftest import error_of
from tests.server.in_process import client_of, make_app
from tests.server.keys import CLIENT, WRONG, bearer, write_keys

PAGE = "https://app.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return write_keys(tmp_path)


async def test_no_web_page_is_let_in_by_default() -> None:
    async with client_of(make_app()) as client:
        for origin in (PAGE, "null", "http://localhost:5000"):
            reply = await client.get("/models", headers={"origin": origin})
            assert not any(name.startswith("access-control") for name in reply.headers)
            reply = await client.options("/inference", headers={**PREFLIGHT, "origin": origin})
            assert (reply.status_code, error_of(reply)) == (405, "method_not_allowed")
            assert not any(name.startswith("access-control") for name in reply.headers)


async def test_an_allowed_page_may_ask_first_without_a_key(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(make_app(keys_file=keys_file, cors_origins=PAGE)) as client:
        with caplog.at_level("INFO", "server.access"):
            reply = await client.options("/inference", headers=PREFLIGHT)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, PAGE)
        assert reply.headers["access-control-allow-methods"] == "GET, POST"
        assert "authorization" in reply.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in reply.headers
        assert "x-request-id" in reply.headers and [vars(each)["method"] for each in caplog.records] == [
            "OPTIONS"
        ]
        reply = await client.get("/models", headers={**bearer(CLIENT), "origin": PAGE})
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, PAGE)
        assert "x-request-id" in reply.headers["access-control-expose-headers"].lower()
        assert "origin" in reply.headers["vary"].lower()


@pytest.mark.parametrize("changed", [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": PAGE + ".evil.example"}, {"origin": "http://app.example"},
    {"origin": PAGE + ":444"}, {"access-control-request-method": "DELETE"}, {"access-control-request-headers": "x-secret"},
])  # fmt: skip
async def test_any_other_preflight_is_a_request_without_a_key(
    keys_file: Path, changed: dict[str, str]
) -> None:
    async with client_of(make_app(keys_file=keys_file, cors_origins=PAGE)) as client:
        reply = await client.options("/inference", headers={**PREFLIGHT, **changed})
        assert (reply.status_code, error_of(reply)) == (401, "unauthorized")
        if changed.get("origin"):
            assert "access-control-allow-origin" not in reply.headers
        for name in ("origin", "access-control-request-method"):
            headers = {key: value for key, value in PREFLIGHT.items() if key != name}
            assert (await client.options("/inference", headers=headers)).status_code == 401


async def test_a_page_can_read_every_error_of_ours(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Scrape) -> bytes:
        raise RuntimeError("secret")

    monkeypatch.setattr(Scrape, "page", broken)
    app = make_app(keys_file=keys_file, cors_origins=PAGE, rate_limit=0.01, rate_limit_burst=3)
    async with client_of(app) as client:
        for path, key, status in (
            ("/models", WRONG, 401), ("/nope", CLIENT, 404), ("/metrics", CLIENT, 500),
            ("/models/a/load", CLIENT, 403), ("/models", CLIENT, 429),
        ):  # fmt: skip
            headers = {**bearer(key), "origin": PAGE, "x-request-id": "mine"}
            reply = await client.get(path, headers=headers)
            assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, PAGE)
            assert error_of(reply) and reply.json()["error"]["request_id"] == "mine"


async def test_any_origin_is_never_together_with_credentials() -> None:
    async with client_of(make_app(cors_origins="*")) as client:
        for headers in ({"origin": PAGE}, {"origin": "null"}, {"origin": PAGE, "cookie": "a=b"}):
            reply = await client.get("/models", headers=headers)
            assert reply.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize("origin", [
    "https://app.example/", "app.example", "https://App.example", "https://*.example", "https://a@b", "ftp://a", "https://a b", "https://a\n",
])  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused_at_start(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        Settings(cors_origins=(origin,))


async def test_preflights_leave_everything_else_alone() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": "lifespan"}

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing is said")

    await Cors(Preflights(app), [PAGE])(scope, receive, send)
    assert seen == [scope]
