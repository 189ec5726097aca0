"""The calls that there are: which request each makes and how its reply is read. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, ValidationError

from server.client.errors import UNEXPECTED, ServerFailedError
from server.client.image import content_type
from server.reply_schemas import InferenceReply
from server.state_schemas import ModelReply, ModelsReply

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
MAX_QUERY_CHARS = 2000
"""What is longer goes into a form: servers and proxies bound a request's first line."""


class Options(TypedDict, total=False):
    """Prompts, and the parameters of a model's task; what a task does not know is refused by the engine."""

    prompt: str
    prompts: Sequence[str]
    confidence: float
    iou: float
    max_detections: int
    classes: Sequence[int]
    masks: Literal["polygon", "rle"]
    top: int
    max_new_tokens: int
    num_beams: int


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request's parts, as `httpx.Client.build_request` takes them, and how its reply is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: Mapping[str, Any] = field(default_factory=dict)
    is_repeatable: bool = True
    """Whether it may be sent again although nobody knows what became of the first."""


def infer(image: bytes | str, model: str, options: Mapping[str, Any]) -> Call[InferenceReply]:
    """`image` is an encoded image, or an address."""
    return Call("POST", "/inference", _reader(InferenceReply), inference_content(image, model, options))


def picture(
    image: bytes | str, model: str, kind: Literal["jpeg", "png"], options: Mapping[str, Any]
) -> Call[bytes]:
    """The same, answered with a picture."""
    content = inference_content(image, model, options)
    accepted = f"image/{kind}"

    def read(response: httpx.Response) -> bytes:
        if response.headers.get("content-type") != accepted:
            raise unexpected(response, "is no picture")
        return response.content

    headers = {**content.get("headers", {}), "accept": accepted}
    return Call("POST", "/inference", read, {**content, "headers": headers})


def models() -> Call[Sequence[ModelReply]]:
    """Every model."""
    read = _reader(ModelsReply)
    return Call("GET", "/models", lambda response: read(response).models)


def model(model_id: str) -> Call[ModelReply]:
    """One model."""
    return Call("GET", _path(model_id), _reader(ModelReply))


def load(model_id: str) -> Call[ModelReply]:
    """Begin to load."""
    return Call("POST", f"{_path(model_id)}/load", _reader(ModelReply))


def unload(model_id: str) -> Call[ModelReply]:
    """End its processes."""
    return Call("POST", f"{_path(model_id)}/unload", _reader(ModelReply))


def reload(model_id: str) -> Call[ModelReply]:
    """Put new weights in place of the old."""
    return Call("POST", f"{_path(model_id)}/reload", _reader(ModelReply), is_repeatable=False)


def inference_content(image: bytes | str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """An address goes as JSON, bytes as the body itself, or in a form where the options are long."""
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(image, str):
        prompts = {name: given.pop(name) for name in ("prompt", "prompts") if name in given}
        return {"json": {"model_id": model, "image_url": image, **prompts, "parameters": given}}
    if "classes" in given:
        given["classes"] = ",".join(map(str, given["classes"]))
    fields = {"model_id": model, **given}
    kind = content_type(image)
    query = urlencode(fields, doseq=True)
    if len(query) > MAX_QUERY_CHARS:
        texts = {name: value if name == "prompts" else str(value) for name, value in fields.items()}
        return {"data": texts, "files": {"image": ("image", image, kind)}}
    return {"params": query, "content": image, "headers": {"content-type": kind}}


def unexpected(response: httpx.Response, what: str) -> ServerFailedError:
    """The error of a success that cannot be read."""
    request_id = response.headers.get("x-request-id")
    return ServerFailedError(UNEXPECTED, f"The reply {what}.", response.status_code, request_id)


def _reader(kind: type[M]) -> Callable[[httpx.Response], M]:
    def read(response: httpx.Response) -> M:
        try:
            return kind.model_validate_json(response.content)
        except ValidationError:
            raise unexpected(response, f"is no {kind.__name__}") from None

    return read


def _path(model_id: str) -> str:
    return f"/models/{quote(model_id, safe='')}"
