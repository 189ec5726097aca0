"""Models, health, description, and who may do what."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from server.errors import KINDS
from tests.server.conftest import MODELS, Running, error_of, serving, until
from tests.server.images import encode, scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = encode(scene())


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[Running]:
    async with serving() as running:
        yield running


async def test_models_are_listed_with_their_states(running: Running) -> None:
    models = {model["model_id"]: model for model in (await running.client.get("/models")).json()["models"]}
    assert models.keys() == MODELS.keys()
    echo = models["echo"]
    assert echo == (await running.client.get("/models/echo")).json()
    assert (echo["state"], echo["required"], echo["task"], echo["family"]) == (
        "ready",
        True,
        "detect",
        "yolo",
    )
    assert (echo["labels"], echo["input"]) == (["circle", "square"], {"height": 32, "width": 32})
    assert (echo["device"], echo["runtime"], echo["precision"], echo["error"]) == (
        "cpu",
        "none",
        "fp32",
        None,
    )
    assert echo["replicas"][0]["state"] in ("ready", "busy")
    assert (models["label"]["state"], models["label"]["labels"]) == ("unloaded", None)


async def test_an_unknown_model_is_not_found(running: Running) -> None:
    for path in ("/models/nope", "/models/..%2fetc"):
        answer = await running.client.get(path)
        assert answer.status_code == 404
        assert error_of(answer) in ("model_not_found", "not_found")
    assert error_of(await running.client.post("/models/nope/load")) == "model_not_found"


async def test_an_operator_loads_and_unloads(running: Running) -> None:
    answer = await running.client.post("/models/label/load")
    assert (answer.status_code, answer.json()["state"]) in ((202, "loading"), (200, "ready"))
    await until(lambda: running.engine.registry.models["label"].is_ready)
    assert (await running.client.post("/models/label/load")).status_code == 200
    pid = running.pool("label").replicas[0].pid
    answer = await running.client.post("/models/label/unload")
    assert (answer.status_code, answer.json()["state"]) == (200, "unloaded")
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (await running.client.post("/models/label/unload")).status_code == 200, "twice is fine"
    assert (await running.client.get("/models/label")).json()["labels"] == [], "what it is stays known"


async def test_readiness_follows_required_models_only(running: Running) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await running.client.get(path)
        assert answer.status_code == 200
        body = answer.json()
        assert body["status"] == "ready"
        assert body["models"]["echo"] == {
            "state": "ready",
            "required": True,
            "ready_replicas": 1,
            "replicas": 1,
        }
    try:
        await running.client.post("/models/echo/unload")
        answer = await running.client.get("/healthz")
        assert answer.status_code == 200, "an operator wished it so"
        assert "echo" not in answer.json()["models"]
    finally:
        await running.client.post("/models/echo/load")
    await until(lambda: running.engine.registry.models["echo"].is_ready)
    assert (await running.client.get("/healthz")).json()["models"]["echo"]["required"]


async def test_not_ready_while_a_required_model_loads_but_live() -> None:
    async with serving({"echo": {"loads_at_start": True, "load_seconds": 1.0}}, wait=False) as slow:
        answer = await slow.client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "loading")
        assert (await slow.client.get("/livez")).json() == {"status": "live"}
        await until(lambda: slow.engine.registry.models["echo"].is_ready)
        assert (await slow.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("GET", "/inference", "POST"), ("DELETE", "/models", "GET, HEAD"), ("PUT", "/models/echo", "GET, HEAD"),
    ("GET", "/models/echo/load", "POST"), ("POST", "/healthz", "GET, HEAD"), ("TRACE", "/livez", "GET, HEAD"),
    ("OPTIONS", "/inference", "POST"),
])  # fmt: skip
async def test_a_wrong_method_is_told_the_right_one(
    running: Running, method: str, path: str, allow: str
) -> None:
    answer = await running.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    assert error_of(answer) == "method_not_allowed"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", [
    "/", "/nope", "/inference/", "//inference", "/INFERENCE", "/models/", "/inference;x", "/inference%00", "/models/echo/renew",
    "/models/echo/load/", "/docs/", "/inference/../healthz/x",
])  # fmt: skip
async def test_an_unknown_path_is_not_found_and_never_redirected(running: Running, path: str) -> None:
    answer = await running.client.send(httpx.Request("POST", f"http://127.0.0.1:{running.port}{path}"))
    assert (answer.status_code, error_of(answer)) == (404, "not_found")


async def test_head_is_answered_without_a_body(running: Running) -> None:
    answer = await running.client.head("/models")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_description_names_every_route_and_code(running: Running) -> None:
    document = (await running.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    app = running.server.config.app
    paths = {route.path for route in app.routes if not route.path.startswith("/docs/")}  # type: ignore[union-attr]
    assert set(document["paths"]) == paths
    codes = document["components"]["schemas"]["ErrorDetail"]["properties"]["code"]["enum"]
    assert set(codes) == set(KINDS)
    _check_references(document, document)


def _check_references(part: object, document: dict[str, object]) -> None:
    if isinstance(part, dict):
        if "$ref" in part:
            target: object = document
            for name in part["$ref"].removeprefix("#/").split("/"):
                assert isinstance(target, dict)
                target = target[name]
        for value in part.values():
            _check_references(value, document)
    elif isinstance(part, list):
        for value in part:
            _check_references(value, document)


async def test_loading_unloading_and_reloading_are_forbidden_from_elsewhere(running: Running) -> None:
    for action in ("load", "unload", "reload"):
        answer = await running.client.post(f"/models/echo/{action}", headers={"x-forwarded-for": "127.0.0.1"})
        assert (answer.status_code, error_of(answer)) == (403, "forbidden")
    assert running.engine.registry.models["echo"].is_ready
