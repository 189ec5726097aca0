"""What the OpenAPI description says of `POST /inference`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.chat.description import CHAT_CODES
from server.errors import KINDS
from server.negotiation import MEDIA_TYPES
from server.operation import TEXT, operation, ref
from server.schemas import MAX_PROMPTS, PARAMETERS
from server.v2 import description as v2

INFERENCE_CODES = (
    set(KINDS)
    - {"forbidden", "not_found", "method_not_allowed", "reload_in_progress"}
    - {"unauthorized", "admin_key_required"}  # access_description.py adds them where there are keys
    - CHAT_CODES
    - set(v2.CODES)
)
"""What a request to run a model may be told."""
_FILE: Mapping[str, Any] = {"type": "string", "format": "binary"}
_PROMPTS = {"type": "array", "items": TEXT, "maxItems": MAX_PROMPTS, "description": "Repeat the field."}
_FORM: Mapping[str, Any] = {"model_id": TEXT, "prompt": TEXT, "prompts": _PROMPTS}


def inference(summary: str = "Run a model on one image.", reply: str = "InferenceReply") -> dict[str, Any]:
    """The operation as JSON types."""
    form = {**_FORM, "image": _FILE, **text_options()}
    described = operation(summary, *sorted(INFERENCE_CODES), schema=ref(reply))
    in_query = [
        {"name": name, "in": "query", "schema": schema, "description": "Only with an image as the body."}
        for name, schema in form.items()
        if name != "image"
    ]
    content = {
        "application/json": {"schema": ref("InferenceBody")},
        "image/*": {"schema": _FILE},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": form, "required": ["model_id", "image"]}
        },
    }
    drawn = {"schema": {**_FILE, "description": "The upright image with the answer drawn on it."}}
    described["responses"]["200"]["content"] |= dict.fromkeys(MEDIA_TYPES.values(), drawn)
    return {**described, "parameters": in_query, "requestBody": {"required": True, "content": content}}


def list_inference(max_images: int) -> dict[str, Any]:
    """The operation with several images, as JSON types."""
    described = inference("Run a model on several images; the results are in their order.", "ListReply")
    files = {"type": "array", "items": _FILE, "maxItems": max_images, "description": "Repeat the field."}
    form = {**_FORM, "images": files, **text_options()}
    content = {
        "application/json": {"schema": ref("ListBody")},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": form, "required": ["model_id", "images"]}
        },
    }
    del described["parameters"]
    for media_type in MEDIA_TYPES.values():
        del described["responses"]["200"]["content"][media_type]
    return {**described, "requestBody": {"required": True, "content": content}}


def text_options() -> dict[str, Any]:
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
