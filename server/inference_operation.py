"""What the OpenAPI description says of `POST /inference`."""

from __future__ import annotations

from typing import Any

from server.errors import KINDS
from server.operation import TEXT, operation, ref
from server.schemas import MAX_PROMPTS, PARAMETERS


def inference() -> dict[str, Any]:
    """The operation as JSON types."""
    file = {"type": "string", "format": "binary"}
    prompts = {"type": "array", "items": TEXT, "maxItems": MAX_PROMPTS, "description": "Repeat the field."}
    form = {"model_id": TEXT, "prompt": TEXT, "prompts": prompts, "image": file, **text_options()}
    codes = set(KINDS) - {"forbidden", "not_found", "method_not_allowed", "reload_in_progress"}
    codes -= {"unauthorized", "admin_key_required"}  # access_description.py adds them where there are keys
    described = operation("Run a model on one image.", *sorted(codes), schema=ref("InferenceReply"))
    in_query = [
        {"name": name, "in": "query", "schema": schema, "description": "Only with an image as the body."}
        for name, schema in form.items()
        if name != "image"
    ]
    content = {
        "application/json": {"schema": ref("InferenceBody")},
        "image/*": {"schema": file},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": form, "required": ["model_id", "image"]}
        },
    }
    return {**described, "parameters": in_query, "requestBody": {"required": True, "content": content}}


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
