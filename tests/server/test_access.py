"""Keys, rates and web pages in front of the routes. Every route with every key: tests/hostile/test_access_matrix.py."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Message

from server.access import presented_key
from server.docs import FILES
from tests.server.conftest import error_of, serving, until
from tests.server.in_process import ELSEWHERE, client_of, make_app
from tests.server.keys import ADMIN, CLIENT, EXPIRED, WRONG, bearer, line, write_keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return write_keys(tmp_path)


@pytest.mark.parametrize(("headers", "expected"), [
    ([], None), ([("authorization", "Bearer k")], b"k"), ([("authorization", "bearer  k ")], b"k"), ([("x-api-key", "k")], b"k"),
    ([("authorization", "Bearer k"), ("x-api-key", "k")], b"k"), ([("authorization", "Bearer k"), ("x-api-key", "j")], None),
    ([("authorization", "Bearer k"), ("authorization", "Bearer k")], None), ([("x-api-key", "k"), ("x-api-key", "k")], None),
    ([("authorization", "Bearer")], b""), ([("authorization", "Bearer ")], b""), ([("authorization", "k")], b""), ([("authorization", "Basic k")], b""),
    ([("authorization", "Basic k"), ("x-api-key", "k")], None), ([("authorization", "Bearer k j")], b"k j"), ([("cookie", "authorization=Bearer k")], None),
])  # fmt: skip
def test_a_key_stands_in_one_header_or_in_both_the_same(
    headers: list[tuple[str, str]], expected: bytes | None
) -> None:
    assert presented_key([(name.encode(), value.encode()) for name, value in headers]) == expected


async def test_without_keys_and_limits_nothing_is_in_front(keys_file: Path) -> None:
    def names(app: Starlette) -> list[str]:
        return [str(getattr(each.cls, "__name__", "")) for each in app.user_middleware]

    assert names(make_app()) == ["RequestScope", "LoopGuard"]
    assert names(make_app(keys_file=keys_file)) == ["RequestScope", "LoopGuard", "Access"]
    assert names(make_app(keys_file=keys_file, cors_origins="https://app.example")) == [
        "Cors",
        "RequestScope",
        "LoopGuard",
        "Preflights",
        "Access",
    ]


async def test_the_refusal_is_the_same_whatever_is_wrong_with_the_key(keys_file: Path) -> None:
    wrong = [
        {}, bearer(WRONG), bearer(EXPIRED), bearer(""), bearer("k" * 30_000), {"authorization": CLIENT},
        {"x-api-key": WRONG}, {**bearer(CLIENT), "x-api-key": ADMIN},
    ]  # fmt: skip
    async with client_of(make_app(keys_file=keys_file)) as client:
        for path in ("/models", "/nope", "/inference", "/models/nope/load", "/metrics"):
            for headers in wrong:
                reply = await client.get(path, headers={**headers, "x-request-id": "same"})
                assert (reply.status_code, error_of(reply)) == (401, "unauthorized")
                assert reply.headers["www-authenticate"] == "Bearer"
                assert (
                    reply.json()["error"]["message"].startswith("Give a valid API key")
                    and len(reply.content) < 200
                )


async def test_a_client_asks_and_an_admin_operates_from_anywhere(keys_file: Path) -> None:
    async with client_of(make_app(keys_file=keys_file), ELSEWHERE) as client:
        assert (await client.get("/models", headers=bearer(CLIENT))).status_code == 200
        assert (await client.get("/models", headers={"x-api-key": CLIENT})).status_code == 200
        for action in ("load", "unload", "reload"):
            reply = await client.post(f"/models/nope/{action}", headers=bearer(CLIENT))
            assert (reply.status_code, error_of(reply)) == (403, "admin_key_required")
            reply = await client.post(f"/models/nope/{action}", headers=bearer(ADMIN))
            assert error_of(reply) == "model_not_found"
        reply = await client.post("/models/shapes-detect/unload", headers=bearer(ADMIN))
        assert (reply.status_code, reply.json()["state"]) == (200, "unloaded")


async def test_without_keys_only_this_machine_operates() -> None:
    async with client_of(make_app(rate_limit=1000), ELSEWHERE) as client:
        assert error_of(await client.post("/models/nope/load")) == "forbidden"
        assert (await client.get("/models")).status_code == 200
    async with client_of(make_app()) as client:
        assert error_of(await client.post("/models/nope/load")) == "model_not_found"


async def test_health_needs_no_key_and_tells_the_models_only_to_who_has_one(keys_file: Path) -> None:
    async with client_of(make_app(keys_file=keys_file)) as client:
        for path in ("/healthz", "/readyz"):
            for headers in ({}, bearer(WRONG), bearer(EXPIRED)):
                assert (await client.get(path, headers=headers)).json().keys() == {"status"}
            for key in (CLIENT, ADMIN):
                assert "models" in (await client.get(path, headers=bearer(key))).json()
        assert (await client.get("/livez")).json() == {"status": "live"}
    async with client_of(make_app()) as client:
        assert "models" in (await client.get("/healthz")).json()


@pytest.mark.parametrize(("setting", "opened"), [
    ("public_metrics", {"/metrics"}), ("public_docs", {"/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES)}), ("offline", set()),
])  # fmt: skip
async def test_metrics_and_docs_are_private_unless_the_settings_say_otherwise(
    keys_file: Path, setting: str, opened: set[str]
) -> None:
    async with client_of(make_app(keys_file=keys_file, **{setting: True})) as client:
        for path in ("/metrics", "/docs", "/openapi.json", *(f"/docs/{name}" for name in FILES)):
            assert (await client.get(path)).status_code == (200 if path in opened else 401)
            assert (await client.get(path, headers=bearer(CLIENT))).status_code == 200


async def test_what_is_added_later_is_behind_a_key_too(keys_file: Path) -> None:
    app = make_app(keys_file=keys_file)
    page = PlainTextResponse("new")
    app.router.routes += [Mount("/v2", app=page), Route("/new", lambda request: page), Mount("/", app=page)]
    async with client_of(app) as client:
        for path in ("/v2/livez", "/v2/", "/new", "/"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers=bearer(CLIENT))).text == "new"


async def test_web_sockets_are_refused(keys_file: Path) -> None:
    app = make_app(keys_file=keys_file)
    app.router.routes.append(WebSocketRoute("/livez", lambda socket: None))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/livez", "headers": [], "query_string": b""}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_below_a_root_path_the_same_paths_are_open(keys_file: Path) -> None:
    app = make_app(keys_file=keys_file)
    transport = httpx.ASGITransport(app, root_path="/engine")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/engine/livez")).status_code == 200
        assert (await client.get("/engine/models")).status_code == 401
        assert (await client.get("/engine/engine/livez")).status_code == 401


async def test_the_access_log_names_the_key_and_never_shows_it(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(make_app(keys_file=keys_file)) as client:
        with caplog.at_level("DEBUG"):
            await client.get("/models", headers=bearer(CLIENT))
            await client.get("/models", headers=bearer(WRONG))
            metrics = await client.get("/metrics", headers={"x-api-key": ADMIN})
    lines = [vars(record) for record in caplog.records if record.name == "server.access"]
    assert [line.get("key_id") for line in lines] == ["alice", None, "ops"]
    assert lines[1]["error_code"] == "unauthorized"
    everything = metrics.text + "".join(str(vars(record)) for record in caplog.records)
    assert not any(key in everything for key in (CLIENT, ADMIN, WRONG))


async def test_the_description_says_what_keys_and_limits_change(keys_file: Path) -> None:
    async with client_of(make_app(keys_file=keys_file, rate_limit=9, public_docs=True)) as client:
        described = (await client.get("/openapi.json")).json()
    schemes = [{"bearer": []}, {"header": []}]
    assert described["components"]["securitySchemes"].keys() == {"bearer", "header"}
    assert described["paths"]["/models"]["get"]["security"] == schemes
    assert {"401", "429"} <= described["paths"]["/models"]["get"]["responses"].keys()
    load = described["paths"]["/models/{model_id}/load"]["post"]
    assert load["security"] == schemes and load["responses"]["403"]["description"] == "admin_key_required"
    for path in ("/livez", "/docs"):
        assert described["paths"][path]["get"]["security"] == []
        assert "401" not in described["paths"][path]["get"]["responses"]
    async with client_of(make_app()) as client:
        described = (await client.get("/openapi.json")).json()
    assert "security" not in str(described).lower() and "401" not in str(described)


async def test_each_key_has_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(line("alice", CLIENT) + line("ops", ADMIN, 'role = "admin", rate_limit = 0'))
    app = make_app(keys_file=path, rate_limit=0.01, rate_limit_burst=3)
    async with client_of(app) as client:
        replies = [await client.get("/models", headers=bearer(CLIENT)) for _ in range(4)]
        assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
        assert error_of(replies[3]) == "rate_limited" and 90 <= int(replies[3].headers["retry-after"]) <= 100
        assert {(await client.get("/models", headers=bearer(ADMIN))).status_code for _ in range(9)} == {200}
        assert {(await client.get("/livez", headers=bearer(CLIENT))).status_code for _ in range(9)} == {200}
        assert (await client.get("/models")).status_code == 401, "without a key there is no rate to learn of"


async def test_without_keys_each_address_has_its_own_and_headers_do_not_change_it() -> None:
    app = make_app(rate_limit=0.01, rate_limit_burst=1)
    groups = (
        ["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.113.8"], ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9%eth0"], ["2001:db8:1:3::1"],
    )  # fmt: skip
    for group in groups:
        statuses = []
        for address in [*group, group[0]]:
            async with client_of(app, address) as client:
                spoofed = {
                    "x-forwarded-for": f"10.0.0.{len(statuses)}",
                    "forwarded": f"for=10.0.0.{len(statuses)}",
                }
                statuses.append((await client.get("/models", headers=spoofed)).status_code)
        assert statuses == [200] + [429] * len(group)


async def test_who_waits_as_long_as_retry_after_says_is_answered(keys_file: Path) -> None:
    async with serving({"echo": {"loads_at_start": True}}, rate_limit=20.0, rate_limit_burst=2) as running:
        statuses = [(await running.client.get("/models")).status_code for _ in range(8)]
        assert statuses[0] == 200 and 429 in statuses

        async def passes() -> bool:
            return (await running.client.get("/models")).status_code == 200

        await until(passes, timeout=2.0)


async def test_a_key_is_valid_from_when_the_file_says_so_until_it_says_otherwise(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.app.REREAD_INTERVAL", 0.02)
    async with serving({"echo": {"loads_at_start": True}}, keys_file=keys_file) as running:

        async def is_let_in(key: str) -> bool:
            return (await running.client.get("/models", headers=bearer(key))).status_code == 200

        assert [await is_let_in(key) for key in (CLIENT, WRONG)] == [True, False]
        with keys_file.open("a") as file:
            file.write(line("carol", WRONG))
        await until(lambda: is_let_in(WRONG))
        keys_file.write_text("damaged")
        assert [await is_let_in(key) for key in (CLIENT, WRONG)] == [True, True]
        keys_file.write_text(line("carol", WRONG))

        async def is_shut_out() -> bool:
            return not await is_let_in(CLIENT)

        await until(is_shut_out)
        assert await is_let_in(WRONG)
