"""From HTTP to several requests, one for each image: JSON, or a form with several files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope

from server import form, schemas
from server.body import BodyShare, read_body
from server.errors import RequestFailedError
from server.intake import (
    InferenceRequest,
    Options,
    content_type_of,
    from_body,
    parse_query,
)

Listed = InferenceRequest | RequestFailedError
"""What is asked of one image, or what is wrong with how that is said."""


@dataclass(frozen=True, slots=True)
class ListIntake:
    """Reads lists within limits: bytes of the whole and of one image, and images."""

    max_list_bytes: int
    max_image_bytes: int
    max_images: int

    async def read(self, scope: Scope, receive: Receive, share: BodyShare) -> list[Listed]:
        """Read one request; nothing of an image is decoded yet. Raises RequestFailedError for what is wrong with the
        whole, and ClientDisconnectedError."""
        kind, content_type = content_type_of(scope)
        query, prompts = parse_query(scope["query_string"])
        if kind == "application/json":
            if query or prompts:
                raise RequestFailedError("unknown_field", next(iter(query), form.REPEATED))
            return self._from_json(await read_body(scope, receive, self.max_list_bytes, share))
        if kind == "multipart/form-data":
            body = await read_body(scope, receive, self.max_list_bytes, share)
            parsed = form.parse_form(content_type, body, self.max_image_bytes, self.max_images)
            if both := query.keys() & parsed.fields.keys():
                raise RequestFailedError("invalid_parameter", min(both))
            if prompts and parsed.prompts:
                raise RequestFailedError("invalid_parameter", form.REPEATED)
            options = Options({**query, **parsed.fields}, prompts or parsed.prompts)
            return [_from_file(options, image) for image in parsed.images]
        raise RequestFailedError("unsupported_media_type")

    def _from_json(self, body: bytes) -> list[Listed]:
        parsed = schemas.parse_list(body, self.max_images)
        return [_from_object(parsed, image) for image in parsed.images]


def _from_object(whole: schemas.ListBody, image: object) -> Listed:
    try:
        return from_body(schemas.parse_listed(whole, image))
    except RequestFailedError as error:
        return error


def _from_file(options: Options, image: bytes) -> Listed:
    return options.request(image) if image else RequestFailedError("empty_body")


def models_of(listed: Sequence[Listed]) -> set[str]:
    """Names that are asked for, as the client wrote them."""
    return {one.model_id for one in listed if isinstance(one, InferenceRequest)}
