"""The OpenAPI description, made from the declarations that requests are checked against and replies are read by."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from server import reply_schemas as replies
from server import schemas as bodies
from server import state_schemas as states
from server.chat.description import chat_paths, chat_schemas
from server.components import TEMPLATE, components
from server.errors import KINDS
from server.examples import add_examples
from server.inference_operation import INFERENCE_CODES, inference, list_inference
from server.list_settings import ListSettings
from server.operation import OBJECT, TEXT, operation, readiness, ref
from server.package_version import package_version
from server.v2 import description as v2

_UNKNOWN = ("model_not_found", "not_found")
_LOADING = sorted(
    code for code, kind in KINDS.items() if kind.status == 503 and code not in ("queue_full", "out_of_memory")
)
BODIES: tuple[type[BaseModel], ...] = (
    bodies.InferenceBody,
    bodies.ListBody,
    bodies.ListedImage,
    bodies.DetectParameters,
    bodies.SegmentParameters,
    bodies.ClassifyParameters,
    bodies.TextParameters,
)
"""What clients send: described as it is checked."""
REPLIES: tuple[type[BaseModel], ...] = (
    replies.InferenceReply,
    replies.ErrorBody,
    replies.ListReply,
    states.ModelsReply,
    states.ModelReply,
    states.HealthReply,
    states.LiveReply,
)
"""What they get; with what these consist of."""


def describe_api(limits: ListSettings | None = None) -> dict[str, Any]:
    """The document as JSON types; `limits` are the settings, their defaults without."""
    limits = limits or ListSettings.model_validate({})
    paths = _paths(limits)
    add_examples(paths)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Model inference engine",
            "version": package_version(),
            "description": "All tasks of YOLO; questions about images and captions with BLIP.",
        },
        "servers": [{"url": ".", "description": "The one that this document is from."}],
        "paths": paths | chat_paths(operation, sorted(INFERENCE_CODES)) | v2.paths(operation),
        "components": {
            "schemas": components(BODIES, REPLIES) | chat_schemas(TEMPLATE) | v2.components(TEMPLATE)
        },
    }


def _paths(limits: ListSettings) -> dict[str, Any]:
    model_id = {"name": "model_id", "in": "path", "required": True, "schema": TEXT}
    with_id = {"parameters": [model_id]}
    model = ref("ModelReply")
    return {
        "/inference": {"post": inference()},
        "/inference/batch": {"post": list_inference(limits.max_listed_images)},
        "/models": {"get": operation("List all models and their states.", schema=ref("ModelsReply"))},
        "/models/{model_id}": {**with_id, "get": operation("Show one model.", *_UNKNOWN, schema=model)},
        "/models/{model_id}/load": {
            **with_id,
            "post": operation(
                "Begin to load a model (operators only); 200 if it serves already.",
                "forbidden",
                *_UNKNOWN,
                *_LOADING,
                success=(HTTPStatus.OK, HTTPStatus.ACCEPTED),
                schema=model,
            ),
        },
        "/models/{model_id}/unload": {
            **with_id,
            "post": operation("Unload a model (operators only).", "forbidden", *_UNKNOWN, schema=model),
        },
        "/models/{model_id}/reload": {
            **with_id,
            "post": operation(
                "Serve a model with its weights as they are now, without losing a request (operators only).",
                "forbidden",
                *_UNKNOWN,
                "reload_in_progress",
                *_LOADING,
                success=(HTTPStatus.OK, HTTPStatus.ACCEPTED),
                schema=model,
            ),
        },
        "/healthz": {"get": readiness("Readiness: 200 once every required model serves, else 503.")},
        "/readyz": {"get": readiness("The same as /healthz.")},
        "/livez": {
            "get": operation("Liveness: 200 as long as the server answers at all.", schema=ref("LiveReply"))
        },
        "/metrics": {"get": operation("Counters for Prometheus.", schema=TEXT, media_type="text/plain")},
        "/openapi.json": {"get": operation("This description.", schema=OBJECT)},
        "/docs": {
            "get": operation("This description as a page to try it on.", schema=TEXT, media_type="text/html")
        },
    }
