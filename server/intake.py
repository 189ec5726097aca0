"""From HTTP to one request, whichever of the three ways it came in: JSON, an image as the body, or a form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from server import form, schemas
from server.base64_text import is_data_url
from server.body import BodyShare, read_body
from server.errors import RequestFailedError

MAX_QUERY_FIELDS = 64
MAX_CONTENT_TYPE_CHARS = 512
"""Its parameters are read in a time that grows with their square; a boundary has 70 characters at most."""

Admit = Callable[[str], None]
"""Told the model's name as soon as it is known; raises to refuse before anything more is spent."""


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a client asks for. Exactly one of `encoded` (an image's bytes, or base64 text) and `image_url` is set;
    `parameters` are checked once the model's task is known, `is_text` if their values are strings still."""

    model_id: str
    prompt: str | None
    parameters: Mapping[str, Any]
    is_text: bool
    encoded: bytes | str | None = None
    image_url: str | None = None
    prompts: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Intake:
    """Reads requests within limits in bytes."""

    max_body_bytes: int
    max_json_bytes: int

    async def read(self, scope: Scope, receive: Receive, share: BodyShare, admit: Admit) -> InferenceRequest:
        """Read one request; nothing of an image is decoded yet. Raises RequestFailedError, ClientDisconnectedError.

        `admit` is called before the body is read where the query names the model, else before it is unpacked.
        """
        kind, content_type = content_type_of(scope)
        query, prompts = parse_query(scope["query_string"])
        if kind == "application/json":
            if query or prompts:
                raise RequestFailedError("unknown_field", next(iter(query), form.REPEATED))
            return self._from_json(await read_body(scope, receive, self.max_json_bytes, share), admit)
        if "model_id" in query:
            admit(query["model_id"])
        if kind == "multipart/form-data":
            limit = self.max_body_bytes + form.OVERHEAD_BYTES
            body = await read_body(scope, receive, limit, share)
            parsed = form.parse_form(content_type, body, self.max_body_bytes)
            return self._from_form(parsed, query, prompts, admit)
        if kind.startswith("image/"):
            options = Options(query, prompts)
            return options.request(await read_body(scope, receive, self.max_body_bytes, share))
        raise RequestFailedError("unsupported_media_type")

    async def read_json(self, scope: Scope, receive: Receive, share: BodyShare) -> bytes:
        """The body of a protocol that knows JSON alone. Raises RequestFailedError, ClientDisconnectedError."""
        kind, _ = content_type_of(scope)
        if kind != "application/json":
            raise RequestFailedError("unsupported_media_type")
        return await read_body(scope, receive, self.max_json_bytes, share)

    def _from_json(self, body: bytes, admit: Admit) -> InferenceRequest:
        parsed = schemas.parse_json(body)
        admit(parsed.model_id)
        return from_body(parsed)

    def _from_form(
        self, parsed: form.Form, query: Mapping[str, str], prompts: Sequence[str], admit: Admit
    ) -> InferenceRequest:
        if both := query.keys() & parsed.fields.keys():
            raise RequestFailedError("invalid_parameter", min(both))
        if prompts and parsed.prompts:
            raise RequestFailedError("invalid_parameter", form.REPEATED)
        options = Options({**query, **parsed.fields}, prompts or parsed.prompts)
        admit(options.model_id)
        return options.request(parsed.images[0])


def from_body(parsed: schemas.InferenceBody) -> InferenceRequest:
    """What a JSON object asks for. Raises RequestFailedError."""
    encoded, image_url = parsed.image_base64, None
    if parsed.image_url is not None:
        encoded, image_url = image_source(parsed.image_url)
    return InferenceRequest(
        model_id=parsed.model_id,
        prompt=parsed.prompt,
        parameters=parsed.parameters,
        is_text=False,
        encoded=encoded,
        image_url=image_url,
        prompts=parsed.prompts,
    )


class Options:
    """The options of a query or a form, all of them text."""

    def __init__(self, fields: Mapping[str, str], prompts: Sequence[str]) -> None:
        self._fields = dict(fields)
        self._prompts = prompts or None
        if "model_id" not in self._fields:
            raise RequestFailedError("invalid_parameter", "model_id")
        self.model_id = self._fields.pop("model_id")
        self._prompt = self._fields.pop("prompt", None)

    def request(self, image: bytes) -> InferenceRequest:
        """The same asked of one image."""
        return InferenceRequest(
            self.model_id, self._prompt, self._fields, is_text=True, encoded=image, prompts=self._prompts
        )


def image_source(address: str) -> tuple[str | None, str | None]:
    """`encoded` and `image_url` of the request for an image at `address`, which may carry it itself.
    Raises RequestFailedError."""
    if address[:5].lower() != "data:":
        return None, address
    if not is_data_url(address):
        raise RequestFailedError("invalid_image_url")
    return address, None


def content_type_of(scope: Scope) -> tuple[str, str]:
    """Of a body that is not compressed: the media type in lower case, and the whole header."""
    headers = dict(reversed(scope["headers"]))
    if b"content-encoding" in headers:
        check_is_plain(scope)
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    if len(content_type) > MAX_CONTENT_TYPE_CHARS:
        raise RequestFailedError("unsupported_media_type")
    return content_type.partition(";")[0].strip().lower(), content_type


def check_is_plain(scope: Scope) -> None:
    """Raises RequestFailedError for a body that is compressed."""
    for name, value in scope["headers"]:
        if name == b"content-encoding":
            for coding in value.split(b","):
                if coding.strip().lower() not in (b"identity", b""):
                    raise RequestFailedError("unsupported_content_encoding")


def parse_query(query_string: bytes) -> tuple[dict[str, str], list[str]]:
    """Options, and the prompts, which alone may be repeated. Raises RequestFailedError."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError:  # not ASCII, not UTF-8 inside the escapes, or too many
        raise RequestFailedError("invalid_parameter", "query") from None
    prompts = [value for name, value in pairs if name == form.REPEATED]
    fields = {name: value for name, value in pairs if name != form.REPEATED}
    if len(fields) + len(prompts) != len(pairs):
        raise RequestFailedError("invalid_parameter", "query")
    return fields, prompts
