"""What the connection itself replies to what never becomes a request, or never ends."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from server.error_shapes import own_shape
from server.errors import RequestFailedError


def refusal(error: RequestFailedError, request_id: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole reply in the one shape of every error; it says that the connection ends. `headers` come first."""
    body = orjson.dumps(own_shape(error, request_id))
    fields = [
        *headers,
        *((name.encode(), value.encode()) for name, value in error.headers.items()),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    status = error.kind.status
    lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode()), *(b"%s: %s" % field for field in fields)]
    return b"\r\n".join([*lines, b"", body])
