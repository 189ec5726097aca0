"""How the OpenAPI description says what one method of a path does: for all groups of routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from server.errors import KINDS

OBJECT: Mapping[str, Any] = {"type": "object"}
TEXT: Mapping[str, Any] = {"type": "string"}
ERROR = "ErrorBody"
"""Name of the schema of an error."""
_ANYWHERE = sorted(
    code
    for code, kind in KINDS.items()
    if kind.status in (408, 414, 431, 500) or code in ("malformed_request", "overloaded", "shutting_down")
)
"""What any request may be told, before it is looked at or when something broke; access_description.py adds what keys
and rates do."""


def ref(model: str) -> dict[str, Any]:
    """A schema that stands among the components."""
    return {"$ref": f"#/components/schemas/{model}"}


def operation(
    summary: str,
    *codes: str,
    success: Sequence[HTTPStatus] = (HTTPStatus.OK,),
    schema: Mapping[str, Any] = OBJECT,
    media_type: str = "application/json",
    error_model: str = ERROR,
) -> dict[str, Any]:
    """`codes` besides those that any request may be told; `error_model` names the schema of their replies."""
    by_status: dict[str, set[str]] = {}
    for code in (*_ANYWHERE, *codes):
        by_status.setdefault(str(KINDS[code].status.value), set()).add(code)
    error = {"application/json": {"schema": ref(error_model)}}
    return {
        "summary": summary,
        "responses": {
            **{
                str(status.value): {
                    "description": status.phrase,
                    "content": {media_type: {"schema": dict(schema)}},
                }
                for status in success
            },
            **{
                status: {"description": ", ".join(sorted(names)), "content": error}
                for status, names in sorted(by_status.items())
            },
        },
    }


def readiness(summary: str) -> dict[str, Any]:
    """Its 503 says what is not ready, in the words of the 200."""
    health = ref("HealthReply")
    described = operation(summary, schema=health)
    refused = described["responses"]["503"]
    refused["description"] = f"not ready; {refused['description']}"
    refused["content"] = {"application/json": {"schema": {"anyOf": [health, ref(ERROR)]}}}
    return described
