"""What is left of a connection once it has ended, and what it needs of uvicorn. Its limits: tests/hostile/test_http*.py."""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import struct

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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


def test_what_is_overridden_or_used_of_uvicorn_is_still_there() -> None:
    """Its internals are nobody's promise: a name that has moved would switch a limit off without a word."""
    overridden = set(vars(Connection)) & set(dir(HttpToolsProtocol)) - set(dir(object))
    assert overridden >= {
        "connection_made", "connection_lost", "data_received", "eof_received", "pause_writing", "resume_writing",
        "on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete",
        "_start_asgi_task", "on_response_complete",
    }  # fmt: skip
    assert list(inspect.signature(HttpToolsProtocol.__init__).parameters)[1:] == [
        "config", "server_state", "app_state", "_loop",
    ]  # fmt: skip
    source = inspect.getsource(httptools_impl)
    for used in (
        "self.pipeline.appendleft((self.cycle, app))",
        "self.cycle = RequestResponseCycle(",
        "self._start_asgi_task(cycle, app)",
        "on_response=self.on_response_complete",
        "self._unset_keepalive_if_required()",
    ):
        assert used in source
    for name in (
        "disconnected",
        "keep_alive",
        "response_started",
        "response_complete",
        "more_body",
        "message_event",
    ):
        assert f"self.{name}" in inspect.getsource(RequestResponseCycle)
    assert {"pause_reading", "resume_reading"} <= set(vars(FlowControl))


async def test_a_request_waiting_behind_one_whose_client_has_left_is_told_so_too() -> None:
    async with serving() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(REQUEST * 3)
        await reader.readline()
        writer.transport.abort()
        await until(lambda: not running.server.server_state.tasks)
        assert (await running.client.get("/livez")).status_code == 200


async def test_what_waits_for_a_deadline_keeps_nothing_once_the_connection_has_ended() -> None:
    async with serving() as running:
        for first in (
            b"",
            b"GET",
            REQUEST[:-2],
            b"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(first)
            await running.client.get("/livez")
            writer.transport.abort()
        kept = running.server.server_state.connections
        await until(lambda: len(kept) == 1)
        gc.collect()
        assert sum(type(thing) is Connection for thing in gc.get_objects()) == 1


async def test_a_connection_whose_body_ended_behind_the_reply_is_not_kept_without_end() -> None:
    async with serving({}) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        kept = running.server.server_state.connections
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert b" 404 " in await reader.readuntil(b"\r\n\r\n")
        (connection,) = (each for each in kept if isinstance(each, Connection))
        connection.timeout_keep_alive = 0.2  # seconds
        writer.write(b"not a one")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b'{"error"'), "its body, then the end"
        writer.close()


async def test_a_refusal_between_requests_does_not_have_the_id_of_the_one_before() -> None:
    async with serving({}, header_timeout=0.2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: first\r\n\r\n")
        assert b"\r\nx-request-id: first\r\n" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\r\n")  # begins a request that does not come
        rest = await asyncio.wait_for(reader.read(), 10)
        assert b" 408 " in rest and b"first" not in rest
        writer.close()
