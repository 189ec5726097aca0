"""A request's body as tensors: JSON, or JSON with tensors' bytes behind it (Triton's binary tensor data extension).

Every length in it is the client's word, so nothing is made of that size before it was compared with what came. For a
thread: the JSON of a picture as a list of numbers takes a while.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from server.errors import RequestFailedError
from server.v2.schemas import MAX_DIMENSIONS, InferBody, InputTensor

MAX_JSON_COMMAS = 1_300_000
"""A picture of 640 x 640 as numbers has 1 228 800 of them; it holds the interpreter for 60 ms."""
MAX_JSON_BRACKETS = 65_536
"""Lists and objects cost ten times as much as numbers."""
_SMALL = 65_536
"""Bytes of JSON that are not worth counting signs in."""
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input: `raw` little-endian bytes, or `values` in row-major order, flat."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: memoryview | None
    values: Sequence[Any]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    def refuse(self, reason: str) -> RequestFailedError:
        """What is wrong with it; `reason` completes a sentence about it."""
        return RequestFailedError("invalid_tensor", self.name, reason=reason)

    def check_datatype(self, datatype: str) -> None:
        """Raises RequestFailedError."""
        if self.datatype != datatype:
            raise self.refuse(f"must have the datatype {datatype}")

    def texts(self, most: int) -> list[bytes | str]:
        """The elements of BYTES of one dimension, 1 to `most`: bytes from behind the JSON, text from inside.
        Raises RequestFailedError."""
        self.check_datatype("BYTES")
        if len(self.shape) != 1 or not 1 <= self.size <= most:
            raise self.refuse(f"must have the shape [N] with N from 1 to {most}")
        if self.raw is not None:
            return list(self._counted(self.raw))
        if len(self.values) != self.size or not all(isinstance(value, str) for value in self.values):
            raise self.refuse("must have as many texts as its shape says")
        return list(self.values)

    def _counted(self, raw: memoryview) -> Iterator[bytes]:
        """Each element follows its length, four bytes."""
        position = 0
        for _ in range(self.size):
            begin = position + 4
            position = begin + int.from_bytes(raw[position:begin], "little")
            if not begin <= position <= len(raw):
                break
            yield bytes(raw[begin:position])
        if position != len(raw):
            raise self.refuse("has lengths that are not those of its bytes")

    def octets(self) -> memoryview:
        """The elements of UINT8. Raises RequestFailedError."""
        self.check_datatype("UINT8")
        try:
            octets = self.raw if self.raw is not None else memoryview(bytes(self.values))
        except (TypeError, ValueError):
            raise self.refuse("must have whole numbers from 0 to 255") from None
        if len(octets) != self.size:
            raise self.refuse("must have as many elements as its shape says")
        return octets


def read_tensors(body: bytes, num_json_bytes: int | None) -> tuple[InferBody, list[Tensor]]:
    """What is asked, and the tensors of it; `num_json_bytes` of the body are JSON, None: all. Raises
    RequestFailedError."""
    end = len(body) if num_json_bytes is None else num_json_bytes
    if end > len(body):
        raise RequestFailedError("invalid_parameter", HEADER_LENGTH)
    asked = _parse(body[:end])
    rest = memoryview(body)[end:]
    tensors = []
    for given in asked.inputs:
        tensor = _tensor(given, rest)
        rest = rest[len(tensor.raw) if tensor.raw is not None else 0 :]
        tensors.append(tensor)
    if len(rest):
        raise RequestFailedError("invalid_parameter", HEADER_LENGTH)
    return asked, tensors


def _parse(text: bytes) -> InferBody:
    if len(text) > _SMALL and (
        text.count(b",") > MAX_JSON_COMMAS or text.count(b"[") + text.count(b"{") > MAX_JSON_BRACKETS
    ):
        raise RequestFailedError("invalid_request")
    try:
        fields = from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        raise RequestFailedError("invalid_json") from None
    if not isinstance(fields, dict):
        raise RequestFailedError("invalid_request")
    try:
        return InferBody.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RequestFailedError("invalid_parameter", ".".join(map(str, first["loc"]))) from None


def _tensor(given: InputTensor, rest: memoryview) -> Tensor:
    parameters = given.parameters or {}
    refused = Tensor(given.name, given.datatype, tuple(given.shape), None, ())
    if any(name.startswith("shared_memory") for name in parameters):
        raise refused.refuse("is in shared memory, which is not supported")
    size = parameters.get("binary_data_size")
    if size is None:
        if not isinstance(given.data, list):
            raise refused.refuse("has no data")
        return Tensor(given.name, given.datatype, refused.shape, None, _flat(given.data))
    if given.data is not None:
        raise refused.refuse("has data and binary_data_size")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise refused.refuse("has a binary_data_size that is not that of its bytes")
    return Tensor(given.name, given.datatype, refused.shape, rest[:size], ())


def _flat(values: list[Any]) -> list[Any]:
    """Lists in lists, to the depth that a shape may have; what is no list among them is refused as an element."""
    for _ in range(MAX_DIMENSIONS):
        if not values or not all(isinstance(value, list) for value in values):
            break
        values = list(chain.from_iterable(values))
    return values
