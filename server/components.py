"""The schemas of the OpenAPI description, from pydantic's models of what is sent and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from server.errors import KINDS
from server.schemas import PARAMETERS

TEMPLATE = "#/components/schemas/{model}"


class _Replies(GenerateJsonSchema):
    """A field whose default is None is left out of a reply; it is never there as null."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Of the value that is there."""
        inner = schema["schema"]
        if schema.get("default", ...) is None and inner["type"] == "nullable":
            return self.generate_inner(inner["schema"])
        return super().default_schema(schema)


def components(bodies: Sequence[type[BaseModel]], replies: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """JSON schemas by name."""
    _, sent = models_json_schema([(model, "validation") for model in bodies], ref_template=TEMPLATE)
    _, given = models_json_schema(
        [(model, "validation") for model in replies], ref_template=TEMPLATE, schema_generator=_Replies
    )
    schemas: dict[str, Any] = {**sent["$defs"], **given["$defs"]}
    schemas["ErrorDetail"]["properties"]["code"]["enum"] = sorted(KINDS)
    for name in ("InferenceBody", "ListedImage"):
        _one_source(schemas[name])
    describe_parameters(schemas["ListBody"])
    return schemas


def _one_source(body: dict[str, Any]) -> None:
    """What is checked beside the fields' own types."""
    sources = ("image_url", "image_base64")
    body["oneOf"] = [{"required": [name], "properties": {name: {"type": "string"}}} for name in sources]
    describe_parameters(body)


def describe_parameters(body: dict[str, Any]) -> None:
    """Which options there are depends on the model: any of a task's."""
    names = dict.fromkeys(kind.__name__ for kind in PARAMETERS.values())
    declared = body["properties"]["parameters"]
    body["properties"]["parameters"] = {
        "description": declared["description"],
        "anyOf": [{"$ref": TEMPLATE.format(model=name)} for name in names],
    }
