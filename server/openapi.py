"""The OpenAPI description, made from the declarations that requests are checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from server.errors import KINDS
from server.negotiation import MEDIA_TYPES
from server.package_version import package_version
from server.schemas import (
    MAX_PROMPTS,
    PARAMETERS,
    ClassifyParameters,
    DetectParameters,
    InferenceBody,
    SegmentParameters,
    TextParameters,
)
from server.v2 import description as v2

_REF = "#/components/schemas/{model}"
_OBJECT: Mapping[str, Any] = {"type": "object"}
_UNKNOWN = ("model_not_found", "not_found")
_ANYWHERE = sorted(
    code
    for code, kind in KINDS.items()
    if kind.status in (408, 414, 431, 500) or code in ("malformed_request", "overloaded", "shutting_down")
)
"""What any request may be told, before it is looked at or when something broke; access_description.py adds what keys
and rates do."""
_LOADING = sorted(
    code for code, kind in KINDS.items() if kind.status == 503 and code not in ("queue_full", "out_of_memory")
)


def describe_api() -> dict[str, Any]:
    """The document as JSON types."""
    inputs: list[type[BaseModel]] = [
        InferenceBody,
        DetectParameters,
        SegmentParameters,
        ClassifyParameters,
        TextParameters,
    ]
    _, schemas = models_json_schema([(model, "validation") for model in inputs], ref_template=_REF)
    components = {**schemas["$defs"], **v2.components(_REF), "Inference": _INFERENCE, "Error": _ERROR}
    sources = ("image_url", "image_base64")
    components["InferenceBody"]["oneOf"] = [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in sources
    ]
    body = components["InferenceBody"]["properties"]
    body["parameters"] = {
        "description": body["parameters"]["description"],
        "anyOf": [{"$ref": _REF.format(model=model.__name__)} for model in inputs[1:]],
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Model inference engine",
            "version": package_version(),
            "description": "All tasks of YOLO; questions about images and captions with BLIP.",
        },
        "paths": _paths() | v2.paths(_operation),
        "components": {"schemas": components},
    }


def _paths() -> dict[str, Any]:
    model_id = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}
    model = {"parameters": [model_id]}
    return {
        "/inference": {"post": _inference()},
        "/models": {"get": _operation("List all models and their states.")},
        "/models/{model_id}": {**model, "get": _operation("Show one model.", *_UNKNOWN)},
        "/models/{model_id}/load": {
            **model,
            "post": _operation(
                "Begin to load a model (operators only); 200 if it serves already.",
                "forbidden",
                *_UNKNOWN,
                *_LOADING,
                success=(HTTPStatus.OK, HTTPStatus.ACCEPTED),
            ),
        },
        "/models/{model_id}/unload": {
            **model,
            "post": _operation("Unload a model (operators only).", "forbidden", *_UNKNOWN),
        },
        "/models/{model_id}/reload": {
            **model,
            "post": _operation(
                "Serve a model with its weights as they are now, without losing a request (operators only).",
                "forbidden",
                *_UNKNOWN,
                "reload_in_progress",
                *_LOADING,
                success=(HTTPStatus.OK, HTTPStatus.ACCEPTED),
            ),
        },
        "/healthz": {"get": _readiness("Readiness: 200 once every required model serves, else 503.")},
        "/readyz": {"get": _readiness("The same as /healthz.")},
        "/livez": {"get": _operation("Liveness: 200 as long as the server answers at all.")},
        "/metrics": {"get": _operation("Counters for Prometheus.", schema=_TEXT, media_type="text/plain")},
        "/openapi.json": {"get": _operation("This description.")},
        "/docs": {"get": _operation("This description as a page.", schema=_TEXT, media_type="text/html")},
        "/events": {
            "get": _operation(
                "The state of all pools once a second, as server-sent events named pools.",
                schema=_TEXT,
                media_type="text/event-stream",
            )
        },
        "/": {"get": _operation("A page to try the models on.", schema=_TEXT, media_type="text/html")},
    }


def _inference() -> dict[str, Any]:
    file = {"type": "string", "format": "binary"}
    prompts = {"type": "array", "items": _TEXT, "maxItems": MAX_PROMPTS, "description": "Repeat the field."}
    form = {"model_id": _TEXT, "prompt": _TEXT, "prompts": prompts, "image": file, **_options()}
    codes = set(KINDS) - {"forbidden", "not_found", "method_not_allowed", "reload_in_progress", *v2.CODES}
    codes -= {"unauthorized", "admin_key_required"}  # access_description.py adds them where there are keys
    operation = _operation(
        "Run a model on one image.", *sorted(codes), schema={"$ref": _REF.format(model="Inference")}
    )
    in_query = [
        {"name": name, "in": "query", "schema": schema, "description": "Only with an image as the body."}
        for name, schema in form.items()
        if name != "image"
    ]
    drawn = {"schema": {**file, "description": "The upright image with the answer drawn on it."}}
    operation["responses"]["200"]["content"] |= dict.fromkeys(MEDIA_TYPES.values(), drawn)
    content = {
        "application/json": {"schema": {"$ref": _REF.format(model="InferenceBody")}},
        "image/*": {"schema": file},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": form, "required": ["model_id", "image"]}
        },
    }
    return {**operation, "parameters": in_query, "requestBody": {"required": True, "content": content}}


def _options() -> dict[str, Any]:
    """Options as they stand in a query or a form: text, lists with commas."""
    options: dict[str, Any] = {}
    for kind in {*PARAMETERS.values()}:
        for name, schema in kind.model_json_schema()["properties"].items():
            is_list = "anyOf" in schema
            options[name] = (
                {"type": "string", "example": "0,2"}
                if is_list
                else {k: schema[k] for k in ("type", "default", "enum") if k in schema}
            )
    return dict(sorted(options.items()))


def _operation(
    summary: str,
    *codes: str,
    success: Sequence[HTTPStatus] = (HTTPStatus.OK,),
    schema: Mapping[str, Any] = _OBJECT,
    media_type: str = "application/json",
) -> dict[str, Any]:
    """`codes` besides those that any request may be told."""
    by_status: dict[str, set[str]] = {}
    for code in (*_ANYWHERE, *codes):
        by_status.setdefault(str(KINDS[code].status.value), set()).add(code)
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
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


def _readiness(summary: str) -> dict[str, Any]:
    """Its 503 says what is not ready, in the words of the 200."""
    operation = _operation(summary)
    refused = operation["responses"]["503"]
    refused["description"] = f"not ready; {refused['description']}"
    refused["content"] = {"application/json": {"schema": _OBJECT}}
    return operation


_NUMBER: Mapping[str, Any] = {"type": "number"}
_ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request_id"],
            "properties": {
                "code": {"type": "string", "enum": sorted(KINDS)},
                "message": {"type": "string"},
                "request_id": {"type": "string"},
            },
        }
    },
}
_TEXT: Mapping[str, Any] = {"type": "string"}
_INTEGER: Mapping[str, Any] = {"type": "integer"}
_PLACE: Mapping[str, Any] = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_CLASS: Mapping[str, Any] = {"label": _TEXT, "class_id": _INTEGER, "confidence": _NUMBER}
_PREDICTION: Mapping[str, Any] = {
    **_CLASS,
    "box": {"type": "object", "properties": dict.fromkeys(("x1", "y1", "x2", "y2"), _NUMBER)},
    "polygon": {"type": "array", "description": "Of segment: the outline.", "items": _PLACE},
    "mask": {
        "type": "object",
        "description": "Of segment with masks=rle: COCO's compressed run lengths, size is height and width.",
        "properties": {"size": {"type": "array", "items": _INTEGER}, "counts": _TEXT},
    },
    "keypoints": {
        "type": "array",
        "description": "Of pose, in the order of the network.",
        "items": {"type": "object", "properties": dict.fromkeys(("x", "y", "confidence"), _NUMBER)},
    },
    "corners": {"type": "array", "description": "Of obb: four of them.", "items": _PLACE},
    "angle": {**_NUMBER, "description": "Of obb: radians, of the side from the fourth corner to the first."},
}


def _answers(name: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "object", "properties": {"prompt": _TEXT, name: _TEXT}}}


_INFERENCE: Mapping[str, Any] = {
    "type": "object",
    "required": ["model_id", "task", "image", "timings_ms", "request_id"],
    "properties": {
        "model_id": {"type": "string"},
        "task": {"type": "string", "enum": sorted(PARAMETERS)},
        "image": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
        },
        "predictions": {
            "type": "array",
            "description": "Of detect, segment, pose and obb, best first: in pixels of the upright original.",
            "items": {"type": "object", "properties": _PREDICTION},
        },
        "top": {
            "type": "array",
            "description": "Of classify: the likeliest classes, best first.",
            "items": {"type": "object", "properties": _CLASS},
        },
        "answer": {**_TEXT, "description": "Of vqa."},
        "caption": {**_TEXT, "description": "Of caption: with the prompt as its beginning."},
        "prompt": {**_TEXT, "description": "Of vqa: the question. Of caption: the prompt, if there was one."},
        "answers": {**_answers("answer"), "description": "Of vqa with prompts: one for each, in order."},
        "captions": {
            **_answers("caption"),
            "description": "Of caption with prompts: one for each, in order.",
        },
        "vision_cached": {
            "type": "boolean",
            "description": "Of vqa and caption: the image was encoded already, for another request. With cache shared "
            "or hit: for the run that made this answer.",
        },
        "cache": {
            "type": "string",
            "enum": ["miss", "shared", "hit"],
            "description": "Only with deduplicate or response_cache_bytes: run for this request (miss), taken from the "
            "run of an equal one in flight (shared) or from an earlier one (hit).",
        },
        "timings_ms": {
            "type": "object",
            "description": "This request's own milliseconds. With cache shared, queue is the wait for the other's run; "
            "with shared or hit, decode, infer and post are 0.",
            "additionalProperties": _NUMBER,
        },
        "request_id": {"type": "string"},
    },
}
