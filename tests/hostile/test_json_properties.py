"""Any JSON there is: accepted by the code where the published schema accepts it, and never a fault of the server's."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server import schemas
from server.errors import RequestFailedError
from server.openapi import describe_api
from tests.hostile.target import SAMPLE, Target

PROPERTY = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PICTURE = base64.b64encode(SAMPLE.read_bytes()).decode()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = (
    st.integers() | st.integers(0, 1001) | st.floats(0, 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 5, 6, 100, 101, 1000, 1001, 100_000, 100_001, 10**30, 2**63, -1, 5e-324, 1e308, 0.5])
)  # fmt: skip
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
OPTIONS = st.dictionaries(
    st.sampled_from(sorted(schemas.PARAMETER_NAMES)) | TEXTS, NUMBERS | TREES, max_size=3
)
FIELDS = {
    "model_id": st.just("shapes-detect") | TREES,
    "prompt": st.none() | TEXTS | TREES,
    "prompts": st.none() | st.lists(TEXTS, max_size=34) | TREES,
    "image_url": st.none() | st.just("http://127.0.0.1/") | TREES,
    "image_base64": st.just(PICTURE) | TEXTS | TREES,
    "parameters": OPTIONS | TREES,
}
BODIES = st.fixed_dictionaries({}, optional=FIELDS) | st.fixed_dictionaries(
    {"model_id": st.just("m"), "image_base64": st.just("QQ==")}, optional={"parameters": OPTIONS, "prompt": st.none() | TEXTS}
)  # fmt: skip


def validator(name: str) -> Any:
    description = describe_api()
    rules = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    return jsonschema_rs.Draft202012Validator(rules)


BODY, VALIDATORS = (
    validator("InferenceBody"),
    {task: validator(kind.__name__) for task, kind in schemas.PARAMETERS.items()},
)


def has_whole_float(value: Any) -> bool:
    """1.0 is an integer to JSON Schema and none to us: the one place where both differ."""
    if isinstance(value, dict):
        return any(map(has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


def refusal(function: Any, *arguments: Any, **options: Any) -> RequestFailedError | None:
    try:
        function(*arguments, **options)
    except RequestFailedError as error:
        assert error.kind.status == 400
        return error
    return None


@PROPERTY
@example({"model_id": "m", "image_url": None, "image_base64": "QQ=="})
@example({"model_id": "m", "image_url": "u", "image_base64": "QQ=="})
@given(BODIES)
def test_the_published_schema_and_the_code_accept_the_same_bodies(body: dict[str, Any]) -> None:
    parameters = body.get("parameters", {})
    is_told = isinstance(parameters, dict)
    without = {**body, "parameters": {}} if is_told else body  # what they may be depends on the task: below
    prompt = body.get("prompt")
    if isinstance(prompt, str) and len(prompt) > schemas.MAX_PROMPT_CHARS:
        return
    assert BODY.is_valid(without) == (refusal(schemas.parse_json, json.dumps(without).encode()) is None)


@PROPERTY
@given(st.sampled_from(sorted(schemas.PARAMETERS)), OPTIONS)
def test_the_published_schema_and_the_code_accept_the_same_options(
    task: Any, options: dict[str, Any]
) -> None:
    if not has_whole_float(options):
        is_taken = refusal(schemas.parse_parameters, task, options, is_text=False) is None
        assert VALIDATORS[task].is_valid(options) == is_taken


@PROPERTY
@given(
    st.sampled_from(sorted(schemas.PARAMETERS)),
    st.dictionaries(st.sampled_from(sorted(schemas.PARAMETER_NAMES)) | TEXTS, TEXTS | NUMBERS.map(str)),
)
def test_any_text_is_an_option_or_refused(task: Any, options: dict[str, str]) -> None:
    refusal(schemas.parse_parameters, task, options, is_text=True)


@PROPERTY
@given(st.binary(max_size=64) | TREES.map(lambda tree: json.dumps(tree).encode()))
def test_any_bytes_are_a_body_or_refused(body: bytes) -> None:
    refusal(schemas.parse_json, body)


@pytest.mark.parametrize("kind", ["bodies", "trees"])
def test_the_server_answers_any_json_with_200_or_a_4xx_of_ours(target: Target, kind: str) -> None:
    @settings(PROPERTY, max_examples=100)
    @given(BODIES if kind == "bodies" else TREES)
    def check(body: Any) -> None:
        reply = target.client.post(
            "/inference", content=json.dumps(body), headers={"content-type": "application/json"}
        )
        assert reply.status_code in (200, 400, 404, 422), reply.text
        assert reply.status_code == 200 or set(reply.json()) == {"error"}

    check()
