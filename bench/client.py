"""A raw HTTP/1.1 client that costs next to nothing, so that a bench measures the server and not its generator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlencode, urlsplit

import pybase64


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, lower-cased headers and body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[Reply] | None = None
        self._head: tuple[int, dict[str, str], int] | None = None
        self.num_unasked = 0
        """Replies that nobody waited for: each would be somebody's second one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but not by inheritance

    async def send(self, request: bytes) -> Reply:
        """Raises ConnectionError when the server closes instead of answering."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._reply

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            self._head = (int(first.split()[1]), headers, end + 4)
        status, headers, start = self._head
        if headers.get("transfer-encoding", "").lower() == "chunked":
            found = read_chunks(self._buffer, start)
        else:
            end = start + int(headers.get("content-length", "0"))
            found = (bytes(self._buffer[start:end]), end) if len(self._buffer) >= end else None
        if found is None:
            return
        body, end = found
        reply = Reply(status, headers, body)
        del self._buffer[:end]
        self._head = None
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(reply)
        else:
            self.num_unasked += 1
        if self._buffer:
            self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionResetError("the server closed the connection"))

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


def read_chunks(buffer: bytes | bytearray, start: int) -> tuple[bytes, int] | None:
    """The body in chunks that begins at `start`, and where it ends; None while it is not whole. No trailers."""
    parts = []
    while (end := buffer.find(b"\r\n", start)) >= 0:
        size = int(bytes(buffer[start:end]).partition(b";")[0], 16)
        start = end + 2 + size + 2
        if len(buffer) < start:
            return None
        if size == 0:
            return b"".join(parts), start
        parts.append(bytes(buffer[end + 2 : start - 2]))
    return None


async def connect(url: str) -> Connection:
    """A connection to the host and port of `url`."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, parts.hostname or "127.0.0.1", parts.port or 80)
    return connection


def build_request(
    url: str,
    model: str,
    image: bytes,
    form: str = "raw",
    options: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> bytes:
    """The bytes of one inference request. `form` is ``raw`` or ``json``; `options` are the request's parameters."""
    host = urlsplit(url).netloc
    options = dict(options or {})
    if form == "raw":
        path = "/inference?" + urlencode({"model_id": model, **options})
        kind, body = "image/jpeg", image
    elif form == "json":
        fields: dict[str, object] = {"model_id": model, "image_base64": pybase64.b64encode_as_string(image)}
        if "prompt" in options:
            fields["prompt"] = options.pop("prompt")
        if options:
            fields["parameters"] = options
        path, kind, body = "/inference", "application/json", json.dumps(fields).encode()
    else:
        raise ValueError(f"unknown form {form!r}")
    return build_post(host, path, kind, body, request_id)


BOUNDARY = "d41d8cd98f00b204e9800998ecf8427e"


def build_form(host: str, path: str, field: str, image: bytes) -> bytes:
    """The bytes of one POST of a form with the JPEG `image` as the file `field`."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = b"".join((head.encode(), image, f"\r\n--{BOUNDARY}--\r\n".encode()))
    return build_post(host, path, f"multipart/form-data; boundary={BOUNDARY}", body)


def build_post(host: str, path: str, kind: str, body: bytes, request_id: str | None = None) -> bytes:
    """The bytes of one POST of a body of the content type `kind`."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
    ]
    if request_id is not None:
        lines.append(f"X-Request-Id: {request_id}")
    return "\r\n".join([*lines, "", ""]).encode() + body
