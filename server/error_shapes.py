"""How an error's body looks: ours, or as clients of the protocol expect that the path belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Scope

from server.errors import RequestFailedError

Shape = Callable[[RequestFailedError, str], Any]
"""JSON types of an error and a request's id."""


_ABOUT_A_FIELD = frozenset({"invalid_parameter", "unknown_field", "not_supported"})


def own_shape(error: RequestFailedError, request_id: str) -> Any:
    """``{"error": {"code", "message", "request_id"}}``"""
    return {"error": {"code": error.code, "message": error.message, "request_id": request_id}}


def _openai_shape(error: RequestFailedError, request_id: str) -> Any:
    """What the OpenAI clients read; the id stands in the header."""
    status = error.kind.status
    kind = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }
    of_status = kind.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {
        "error": {
            "message": error.message,
            "type": of_status,
            "param": error.subject if error.code in _ABOUT_A_FIELD else None,
            "code": error.code,
        }
    }


def _kserve_shape(error: RequestFailedError, request_id: str) -> Any:
    """Of the Open Inference Protocol: one text."""
    return {"error": f"{error.code}: {error.message}"}


SHAPES: Mapping[str, Shape] = {"v1": _openai_shape, "v2": _kserve_shape}
"""By a path's first part."""


def error_body(error: RequestFailedError, scope: Scope) -> Any:
    """JSON types of the error's body, for the path that was asked."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    shape = SHAPES.get(path[1:].partition("/")[0], own_shape)
    return shape(error, scope["state"]["request_id"])
