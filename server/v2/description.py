"""The protocol's part of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.errors import KINDS
from server.v2.schemas import (
    VERSION,
    ErrorText,
    InferBody,
    InferReply,
    ModelMetadata,
    ServerMetadata,
)
from server.v2.tensors import HEADER_LENGTH

_REF = "#/components/schemas/{model}"
_BINARY: Mapping[str, Any] = {"type": "string", "format": "binary"}
_UNKNOWN = ("model_not_found", "not_found")
_NOT_OF_AN_IMAGE = {
    "forbidden", "not_found", "method_not_allowed", "reload_in_progress", "unauthorized", "admin_key_required",
    "exactly_one_image_source", "invalid_multipart", "not_acceptable", "invalid_image_url", "image_url_not_allowed",
    "image_url_disabled", "image_fetch_failed",
}  # fmt: skip
CODES = ("invalid_tensor", "answer_too_large")
"""What no other protocol says."""
_REPOSITORY = ("body_too_large", "invalid_json", "invalid_request")

Operation = Callable[..., dict[str, Any]]
"""From a summary, error codes and a schema to an operation."""


def components(ref_template: str) -> dict[str, Any]:
    """The schemas that `paths` names."""
    asked: list[type[BaseModel]] = [InferBody]
    answered: list[type[BaseModel]] = [InferReply, ModelMetadata, ServerMetadata, ErrorText]
    _, schemas = models_json_schema(
        [*((model, "validation") for model in asked), *((model, "serialization") for model in answered)],
        ref_template=ref_template,
    )
    return dict(schemas["$defs"])


def paths(operation: Operation) -> dict[str, Any]:
    """Each path's operations, whose errors have the protocol's shape."""
    operation = partial(operation, error_model=ErrorText.__name__)
    model = {"parameters": [_parameter("model_id", "path", {"type": "string"}, required=True)]}
    described: dict[str, Any] = {
        "/v2": {"get": operation("Open Inference Protocol: the server.", schema=_ref(ServerMetadata))},
        "/v2/health/live": {"get": operation("Open Inference Protocol: liveness, as /livez.")},
        "/v2/health/ready": {"get": operation("Open Inference Protocol: readiness, as /readyz.")},
        "/v2/repository/index": {
            "post": operation(
                "Triton's index of all models.",
                *_REPOSITORY,
                schema={"type": "array", "items": {"type": "object"}},
            )
        },
    }
    for name in ("load", "unload"):
        codes = ("forbidden", *_UNKNOWN, *_REPOSITORY, "invalid_parameter", *_unavailable())
        described[f"/v2/repository/models/{{model_id}}/{name}"] = {
            **model,
            "post": operation(f"Triton's {name} (operators only); replies when it is done.", *codes),
        }
    for version in ("", f"/versions/{VERSION}"):
        path = f"/v2/models/{{model_id}}{version}"
        described[path] = {
            **model,
            "get": operation(
                "Open Inference Protocol: a model's tensors.", *_UNKNOWN, schema=_ref(ModelMetadata)
            ),
        }
        described[f"{path}/ready"] = {
            **model,
            "get": operation("Open Inference Protocol: whether a model serves.", *_UNKNOWN, *_unavailable()),
        }
        described[f"{path}/infer"] = {**model, "post": _infer(operation)}
    return described


def _infer(operation: Operation) -> dict[str, Any]:
    codes = sorted(set(KINDS) - _NOT_OF_AN_IMAGE)
    described = operation("Open Inference Protocol: run a model on images.", *codes, schema=_ref(InferReply))
    described["responses"]["200"]["content"]["application/octet-stream"] = {"schema": dict(_BINARY)}
    content = {
        "application/json": {"schema": _ref(InferBody)},
        "application/octet-stream": {"schema": dict(_BINARY)},
    }
    length = _parameter(HEADER_LENGTH, "header", {"type": "integer"}, required=False)
    length["description"] = "Bytes of JSON, where tensors' bytes follow it."
    return {**described, "parameters": [length], "requestBody": {"required": True, "content": content}}


def _unavailable() -> list[str]:
    return sorted(code for code, kind in KINDS.items() if kind.status == 503)


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model.__name__)}


def _parameter(name: str, place: str, schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": dict(schema)}
