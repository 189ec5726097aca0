from __future__ import annotations

from typing import Any

import pytest

from server.error_shapes import error_body
from server.errors import RequestFailedError

ERROR = RequestFailedError("invalid_parameter", "prompt")
OWN = {"error": {"code": "invalid_parameter", "message": ERROR.message, "request_id": "r"}}
OPENAI = {
    "error": {
        "message": ERROR.message, "type": "invalid_request_error", "param": "prompt", "code": "invalid_parameter",
    }
}  # fmt: skip
KSERVE = {"error": f"invalid_parameter: {ERROR.message}"}


@pytest.mark.parametrize(("path", "body"), [
    ("/inference", OWN), ("/", OWN), ("/v1", OPENAI), ("/v1/chat/completions", OPENAI), ("/v2", KSERVE),
    ("/v2/models/a/infer", KSERVE), ("/v2x", OWN), ("/models/v1/load", OWN), ("/v1%2F", OWN),
])  # fmt: skip
def test_an_error_is_in_the_shape_of_its_paths_protocol(path: str, body: Any) -> None:
    assert error_body(ERROR, {"path": path, "state": {"request_id": "r"}}) == body


def test_a_prefix_that_a_proxy_strips_is_not_part_of_the_path() -> None:
    scope = {"path": "/engine/v2/models", "root_path": "/engine", "state": {"request_id": "r"}}
    assert error_body(ERROR, scope) == KSERVE


@pytest.mark.parametrize(("code", "kind"), [
    ("unauthorized", "authentication_error"), ("model_not_found", "not_found_error"),
    ("rate_limited", "rate_limit_error"), ("queue_full", "server_error"), ("image_too_large", "invalid_request_error"),
])  # fmt: skip
def test_openai_clients_are_told_the_kind_they_know(code: str, kind: str) -> None:
    body = error_body(RequestFailedError(code), {"path": "/v1/models", "state": {"request_id": "r"}})
    assert body["error"]["type"] == kind
