"""What is said in this protocol: the declarations that requests are checked with and that the description shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MAX_TENSORS = 8
MAX_OUTPUTS = 32
MAX_DIMENSIONS = 8
MAX_ID_CHARS = 256
MAX_NAME_CHARS = 128
VERSION = "1"
"""The only one that a model has."""

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Shape = Annotated[
    list[Annotated[int, Field(ge=0, le=2**40)]], Field(fail_fast=True, max_length=MAX_DIMENSIONS)
]


class _Asked(BaseModel):
    """Fields that are not known are skipped, as the protocol wants."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class InputTensor(_Asked):
    """What is given: `data` in row-major order, or `binary_data_size` among the parameters."""

    name: Name
    shape: Shape
    datatype: Annotated[str, Field(max_length=16, examples=["BYTES", "UINT8"])]
    parameters: dict[str, Any] | None = None
    data: Any = Field(
        None,
        description="Numbers, or texts: of an image its base64. Not together with binary_data_size, which says how "
        "many bytes behind the JSON are this tensor's.",
    )


class RequestedOutput(_Asked):
    """What is wanted; with `binary_data` among the parameters, behind the JSON."""

    name: Name
    parameters: dict[str, Any] | None = None


class InferBody(_Asked):
    """The JSON of `POST /v2/models/{model_id}/infer`."""

    id: Annotated[str, Field(max_length=MAX_ID_CHARS)] | None = None
    parameters: dict[str, Any] | None = Field(
        None, description="Options of the model's task, and binary_data_output: all outputs behind the JSON."
    )
    inputs: Annotated[list[InputTensor], Field(fail_fast=True, min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[list[RequestedOutput], Field(fail_fast=True, max_length=MAX_OUTPUTS)] | None = Field(
        None, description="All without it."
    )


class OutputTensor(BaseModel):
    """What comes back: `data`, or `binary_data_size` among the parameters."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Mapping[str, Any] | None = None
    data: list[Any] | None = None


class InferReply(BaseModel):
    """The JSON of the 200."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """A tensor as it is given or comes back; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model's tensors, of which `image` or `pixels` must be given."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """Who answers."""

    name: str
    version: str
    extensions: list[str]


class ErrorText(BaseModel):
    """The body of every reply of this protocol that is no success: the code and the message."""

    error: str
