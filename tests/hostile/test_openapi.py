"""Requests made from our own description, good and bad: every reply is one that the description announces.

More of them: ``HYPOTHESIS_CASES=2000 pytest tests/hostile/test_openapi.py``.
"""

from __future__ import annotations

import base64
import os
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.openapi import describe_api
from server.schemas import DetectParameters
from tests.hostile.leaks import assert_no_leak
from tests.hostile.target import SAMPLE, Target

FEW = 25
NUM_CASES = int(os.environ.get("HYPOTHESIS_CASES", FEW))
"""Of each operation and kind."""
CONFORMANCE = [
    content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance,
]  # fmt: skip
OPERATIONS = {
    operation.label: operation
    for result in schemathesis.openapi.from_dict(describe_api()).get_all_operations()
    if (operation := result.ok()) is not None
}


CASES = [
    *((label, GenerationMode.POSITIVE) for label in OPERATIONS if label != "GET /events"),
    ("POST /inference", GenerationMode.NEGATIVE),
]
"""What takes no input, or any text, cannot be asked wrongly. A stream has no end; tests/server/test_events.py reads it."""


def cases(label: str, mode: GenerationMode) -> st.SearchStrategy[schemathesis.Case]:
    """Half of those for `/inference` name the model that there is; of these, half have a picture."""
    made = OPERATIONS[label].as_strategy(generation_mode=mode)
    if label != "POST /inference":
        return made
    return st.tuples(made, st.booleans(), st.booleans()).map(lambda drawn: aimed(*drawn))


def aimed(case: schemathesis.Case, at_model: bool, with_picture: bool) -> schemathesis.Case:
    picture = SAMPLE.read_bytes()
    if at_model and case.media_type == "application/json" and isinstance(case.body, dict):
        case.query = {}
        case.body["model_id"] = "shapes-detect"
        if with_picture:
            kept = {"model_id": "shapes-detect", "image_base64": base64.b64encode(picture).decode()}
            case.body = {**kept, "parameters": case.body.get("parameters", {})}
    elif at_model:
        is_form = isinstance(case.body, dict)
        options = case.body if is_form else case.query or {}
        if with_picture:
            options = {name: options[name] for name in DetectParameters.model_fields if name in options}
        options = {**options, "model_id": "shapes-detect"}
        if is_form:
            case.query, case.body = {}, {**options, "image": picture}
        else:
            case.query, case.body = options, picture if with_picture else case.body
    return case


@pytest.mark.parametrize(("label", "mode"), CASES, ids=[f"{label} {mode.value}" for label, mode in CASES])
def test_every_reply_is_as_the_description_says(target: Target, label: str, mode: GenerationMode) -> None:
    seen: Counter[tuple[int, str]] = Counter()

    @settings(
        max_examples=NUM_CASES, deadline=None, derandomize=NUM_CASES == FEW, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases(label, mode))
    def check(case: schemathesis.Case) -> None:
        reply = case.call(base_url=target.url, timeout=30)
        seen[reply.status_code, str(case.media_type)] += 1
        case.validate_response(reply, checks=CONFORMANCE)
        assert reply.status_code < 500, reply.text
        head = "\n".join(f"{name}: {value[0]}" for name, value in reply.headers.items())
        assert_no_leak(
            head, reply.content, f"{reply.request.url}\n{reply.request.headers}\n{reply.request.body!r}"
        )

    check()
    assert sum(seen.values()) > 0
    print(label, mode.value, dict(seen))
