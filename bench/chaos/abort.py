"""A client that leaves with a reset at some point of the exchange."""

from __future__ import annotations

import asyncio
import socket
import struct
from urllib.parse import urlsplit

POINTS = ("connected", "half_head", "head", "half_body", "sent", "waiting", "half_answer")
_WAIT = 0.004
_RESET = struct.pack("ii", 1, 0)


async def abort(url: str, request: bytes, point: str) -> None:
    """Send `request` as far as `point` and reset the connection."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = request.index(b"\r\n\r\n") + 4
    sent = {"connected": 0, "half_head": head // 2, "head": head, "half_body": (head + len(request)) // 2}
    writer.write(request[: sent.get(point, len(request))])
    await writer.drain()
    if point == "waiting":
        await asyncio.sleep(_WAIT)
    elif point == "half_answer":
        await reader.read(20)
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
