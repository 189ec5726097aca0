"""The chat's part of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from server.chat.schemas import (
    ChatBody,
    ChatCompletion,
    ChatCompletionChunk,
    ChatErrorBody,
    ChatModel,
    ChatModelList,
)

CHAT_CODES = frozenset({"image_required", "several_images", "not_supported", "not_a_chat_model"})
"""That no other protocol's clients are told."""
_NOT_OF_CHAT = {"exactly_one_image_source", "invalid_multipart"}
_READ: Sequence[type[BaseModel]] = (
    ChatCompletion,
    ChatCompletionChunk,
    ChatModel,
    ChatModelList,
    ChatErrorBody,
)


def chat_schemas(ref_template: str) -> dict[str, Any]:
    """Components by name."""
    declared: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ChatBody, "validation")]
    declared += [(model, "serialization") for model in _READ]
    _, schemas = models_json_schema(declared, ref_template=ref_template)
    components: dict[str, Any] = schemas["$defs"]
    return components


def chat_paths(operation: Callable[..., dict[str, Any]], inference_codes: Sequence[str]) -> dict[str, Any]:
    """By path. `operation` makes one that may be told the codes it is given; `inference_codes` are those of
    `POST /inference`."""

    def described(summary: str, model: type[BaseModel], *codes: str) -> dict[str, Any]:
        return operation(summary, *codes, schema=_ref(model), error_model=ChatErrorBody.__name__)

    model_id = {"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}
    codes = sorted((set(inference_codes) | CHAT_CODES) - _NOT_OF_CHAT)
    completion = described(
        "Answer a question about an image, as OpenAI's clients ask it.", ChatCompletion, *codes
    )
    completion["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    completion["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _ref(ChatBody)}},
    }
    return {
        "/v1/chat/completions": {"post": completion},
        "/v1/models": {"get": described("List the models that answer in words.", ChatModelList)},
        "/v1/models/{model_id}": {
            "parameters": [model_id],
            "get": described(
                "Show one of them.", ChatModel, "model_not_found", "not_found", "not_a_chat_model"
            ),
        },
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}
