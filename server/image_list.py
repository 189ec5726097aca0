"""From HTTP to several requests, one for each image: JSON, or a form with several files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope

from server import form, schemas
from server.body import BodyShare, read_body
from server.errors import RequestFailedError
from server.intake import (
    InferenceRequest,
    content_type_of,
    from_body,
    options_of,
    parse_query,
)

Listed = InferenceRequest | RequestFailedError
"""What is asked of one image, or what is wrong with how that is said."""
Run = Callable[[Callable[[], list[Listed]]], Awaitable[list[Listed]]]
"""Calls something in a thread."""


@dataclass(frozen=True, slots=True)
class ListIntake:
    """Reads lists within limits: bytes of the whole and of one image, and images."""

    max_list_bytes: int
    max_image_bytes: int
    max_images: int

    async def read(self, scope: Scope, receive: Receive, share: BodyShare, run: Run) -> list[Listed]:
        """Read one request, and take it apart by `run`: 64 MiB held the loop for 0.2 s. Nothing of an image is decoded
        yet. Raises RequestFailedError for what is wrong with the whole, and ClientDisconnectedError."""
        kind, content_type = content_type_of(scope)
        query, prompts = parse_query(scope["query_string"])
        if kind == "application/json":
            if query or prompts:
                raise RequestFailedError("unknown_field", next(iter(query), form.REPEATED))
            body = await read_body(scope, receive, self.max_list_bytes, share)
            return await run(lambda: self._from_json(body))
        if kind == "multipart/form-data":
            body = await read_body(scope, receive, self.max_list_bytes, share)
            return await run(lambda: self._from_form(content_type, body, query, prompts))
        raise RequestFailedError("unsupported_media_type")

    def _from_form(
        self, content_type: str, body: bytes, query: Mapping[str, str], prompts: Sequence[str]
    ) -> list[Listed]:
        parsed = form.parse_form(content_type, body, self.max_image_bytes, self.max_images)
        options = options_of(parsed, query, prompts)
        return [
            options.request(image) if image else RequestFailedError("empty_body") for image in parsed.images
        ]

    def _from_json(self, body: bytes) -> list[Listed]:
        shared, images = schemas.parse_list(body, self.max_images)
        return [_from_object(shared, image) for image in images]


def _from_object(shared: Mapping[str, Any], image: object) -> Listed:
    try:
        return from_body(schemas.parse_listed(shared, image))
    except RequestFailedError as error:
        return error


def models_of(listed: Sequence[Listed]) -> set[str]:
    """Names that are asked for, as the client wrote them."""
    return {one.model_id for one in listed if isinstance(one, InferenceRequest)}
