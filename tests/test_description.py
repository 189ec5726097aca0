"""The OpenAPI description against the server it describes: its examples are sent, and what comes back is as declared."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from server.examples import PICTURE, REPLIES, REQUESTS
from server.openapi import describe_api
from server.reply_schemas import TaskName
from tests.serving import RunningServer, running_server

DOCUMENT = describe_api()
MODELS = ("shapes-detect", "shapes-vqa")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(environment={"ENGINE_LOAD_AT_START": ",".join(MODELS)}) as server:
        yield server


def ask(server: RunningServer, method: str, path: str, body: Any = None) -> Any:
    """The JSON of a 200."""
    url = server.url + path.format(model_id="shapes-detect")
    reply = httpx.request(method, url, json=body, timeout=60, trust_env=False, verify=False)
    assert reply.status_code == 200, reply.text
    return reply.json()


def closed(part: Any) -> Any:
    """The same schema without room for fields that are not declared."""
    if isinstance(part, dict):
        changed = {name: closed(value) for name, value in part.items()}
        if isinstance(changed.get("properties"), dict) and changed.get("type") == "object":
            changed.setdefault("additionalProperties", False)
        return changed
    return [closed(each) for each in part] if isinstance(part, list) else part


def check(schema: Any, value: Any) -> None:
    """Every field is declared, and as it is."""
    whole = {**closed(schema), "components": {"schemas": closed(DOCUMENT["components"]["schemas"])}}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


def schema_of(path: str, method: str) -> Any:
    return DOCUMENT["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]


def shape(value: Any) -> Any:
    """Names and kinds without the values: of a list, those of its first part; of a mapping by name, none."""
    if isinstance(value, dict):
        return {name: {} if name in ("layouts", "counters", "models") and isinstance(each, dict) else shape(each)
                for name, each in value.items()}  # fmt: skip
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )


@pytest.mark.parametrize(
    ("path", "name"), [(path, name) for path, bodies in REQUESTS.items() for name in bodies]
)
def test_an_example_is_answered_as_its_reply_says(server: RunningServer, path: str, name: str) -> None:
    body = REQUESTS[path][name]
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    assert content["examples"][name] == {"value": body}
    check(content["schema"], body)
    real, example = ask(server, "POST", path, body), REPLIES[path, "post"][name]
    check(schema_of(path, "post"), real)
    check(schema_of(path, "post"), example)
    assert shape(real) == shape(example)
    for each, other in zip(real.get("results", [real]), example.get("results", [example]), strict=True):
        said = [[one["label"] for one in whole.get("predictions", ())] for whole in (each, other)]
        assert said[0] == said[1] and each.get("answer") == other.get("answer")


@pytest.mark.parametrize(("path", "method"), [key for key in REPLIES if key[0] not in REQUESTS])
def test_an_example_of_a_state_is_as_the_real_one(server: RunningServer, path: str, method: str) -> None:
    (example,) = REPLIES[path, method].values()
    if path.endswith(("/unload", "/reload")):  # the model is needed by the others
        path_of_real = path.rpartition("/")[0].replace(
            "{model_id}", "yolov8n" if path.endswith("/unload") else MODELS[0]
        )
        real = ask(server, "GET", path_of_real)
    else:
        real = ask(server, method.upper(), path)
    check(schema_of(path, method), real)
    check(schema_of(path, method), example)
    assert real.keys() == example.keys()
    if not path.endswith("/unload"):
        assert shape(real) == shape(example)


def test_the_description_is_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_operation_with_json_has_an_example() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            content = {} if method == "parameters" else operation["responses"]["200"]["content"]
            if "application/json" in content and path != "/openapi.json":
                assert content["application/json"]["examples"], path


@pytest.mark.parametrize("code", [400, 404, 422])
def test_errors_are_as_declared(server: RunningServer, code: int) -> None:
    bodies = {
        400: {"model_id": "shapes-detect"}, 404: {"model_id": "nope", "image_base64": PICTURE},
        422: {"model_id": "shapes-detect", "image_base64": base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()},
    }  # fmt: skip
    reply = httpx.post(server.url + "/inference", json=bodies[code], trust_env=False, verify=False)
    assert reply.status_code == code
    declared = DOCUMENT["paths"]["/inference"]["post"]["responses"][str(code)]
    assert reply.json()["error"]["code"] in declared["description"]
    check(declared["content"]["application/json"]["schema"], reply.json())


def test_the_tasks_of_the_description_are_all() -> None:
    assert set(DOCUMENT["components"]["schemas"]["InferenceReply"]["properties"]["task"]["enum"]) == set(
        TaskName.__args__
    )
