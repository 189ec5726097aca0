"""What is left of a connection once it has ended."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct

from server.connection import Connection
from tests.server.conftest import serving, until

REQUEST = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


async def test_nothing_is_left_of_a_connection_that_was_reset_after_its_reply() -> None:
    async with serving() as running:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(REQUEST)
            assert b" 200 " in await reader.readline()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        await running.client.get("/livez")
        kept = running.server.server_state.connections
        await until(lambda: len(kept) == 1)
        del reader, writer
        gc.collect()
        left = [
            thing for thing in gc.get_objects() if type(thing) is Connection
        ]  # isinstance would ask strangers
        assert len(left) == 1, "that of the last request"
