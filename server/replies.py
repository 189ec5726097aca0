"""Replies as ASGI: JSON, and errors that stay readable although the client's body was not read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.body import BodyShare
from server.error_shapes import error_body
from server.errors import RequestFailedError

LINGER_BYTES = 1 << 20
LINGER_TIMEOUT = 2.0


class JsonReply(Response):
    """A JSON document."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(content, status_code=status, headers=headers)

    def render(self, content: Any) -> bytes:
        """Bytes are JSON already, anything else is encoded."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


class PictureReply(Response):
    """A picture, which counts as a body in flight until the client has taken it."""

    def __init__(self, picture: bytes, media_type: str, headers: Mapping[str, str], share: BodyShare) -> None:
        super().__init__(picture, headers=headers, media_type=media_type)
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._share:
            await super().__call__(scope, receive, send)


class ErrorReply(JsonReply):
    """An error, in the shape of the protocol that the request's path belongs to.

    A client that still sends its body would see a reset connection instead of this reply if the server closed
    at once: so what is left of the body is read and thrown away, up to `LINGER_BYTES` and `LINGER_TIMEOUT`.
    """

    def __init__(self, error: RequestFailedError, scope: Scope) -> None:
        super().__init__(error_body(error, scope), error.kind.status, error.headers)
        self._code = error.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; close the connection if more than `LINGER_BYTES` of the body may still come."""
        state = scope["state"]
        state["error_code"] = self._code
        if state.get("is_body_read") or _rest_is_small(scope):
            await super().__call__(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": [*self.raw_headers, (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _discard_body(receive)
        await send({"type": "http.response.body", "body": b""})


def _rest_is_small(scope: Scope) -> bool:
    """True if the server may throw the body away by itself and keep the connection."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return False
    length = headers.get(b"content-length", b"0")
    return b"expect" not in headers and length.isdigit() and int(length) <= LINGER_BYTES


async def _discard_body(receive: Receive) -> None:
    num_bytes = 0
    try:
        async with asyncio.timeout(LINGER_TIMEOUT):
            while num_bytes < LINGER_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
