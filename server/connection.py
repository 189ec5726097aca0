"""uvicorn's side of one connection, hardened: nothing that a client sends, or does not send, is waited for without
end or kept without bound, and every refusal has the one shape of errors.

             first byte          headers complete        last byte of the body
   IDLE ───────────────▶ HEAD ────────────────▶ BODY ────────────────▶ IDLE, or ENDED where it was the last
    a new connection begins ▲ here                 └─ refused, timeout ─▶ ENDED: what still comes is thrown away

These are stages of what is *received*; what is answered meanwhile (uvicorn's cycle, and its pipeline of those that
wait) is another matter: a request may have its reply before its body has ended, and the next may come before that.
"""

from __future__ import annotations

import asyncio
import enum
import time
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.errors import RequestFailedError
from server.middleware import log_access, request_id_of
from server.refusal import refusal
from server.replies import LINGER_BYTES, LINGER_TIMEOUT
from server.stall import Stall

if TYPE_CHECKING:
    from server.gate import Gate, Place

MAX_PIPELINED = 32
"""Requests that wait behind the one being answered; what comes after them is not answered, as HTTP allows."""
HALF_CLOSE_TIMEOUT = 1.0
"""Seconds for the reply to a client that has ended its side: most of those that do have left altogether."""
LINE_BYTES = 64
"""Of a request's first line beside its target, generously."""


class Stage(enum.Enum):
    """What is being received."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    ENDED = enum.auto()


# A member of an enum costs a look-up in Python's own code each time it is named, until Python 3.12.
_IDLE: Stage = Stage.IDLE
_HEAD: Stage = Stage.HEAD
_BODY: Stage = Stage.BODY
_ENDED: Stage = Stage.ENDED


class _Flow(FlowControl):
    """Reads nothing while whole requests wait to be begun: uvicorn would read, and keep, any number of them."""

    def __init__(self, transport: asyncio.Transport, pipeline: Any) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        """As soon as none waits."""
        if not self._pipeline:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """Made by a Gate."""

    def __init__(self, gate: Gate, *from_uvicorn: Any) -> None:
        super().__init__(*from_uvicorn)
        self._gate = gate
        self._settings = gate.settings
        self._max_headers = gate.settings.max_headers
        self._max_header_bytes = gate.settings.max_header_bytes
        self.place: Place | None = None
        self._stage = _HEAD
        self._started_at = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._has_waited = False
        """For its turn to be refused."""
        self._stall: Stall | None = None
        self._answering: RequestResponseCycle | None = None
        self._failure = "malformed_request"
        self._is_refusing = False
        # of the request being received
        self._num_head_bytes = 0  # of its headers so far; trailers count again from 0
        self._num_headers = 0
        self._num_fed_bytes = 0  # since the last piece of its body, or its start
        self._has_progress = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or tell it that there is no room."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        transport.set_write_buffer_limits(0)  # writing pauses exactly while the client takes nothing more
        if self._gate.enter():
            self._settle()
            return
        self._is_refusing = self._gate.can_refuse_patiently()
        self._gate.num_refusing += self._is_refusing
        self._end("overloaded", lingers=self._is_refusing)

    def connection_lost(self, exc: Exception | None) -> None:
        """`exc` is None for an orderly end. uvicorn tells only the request that came last, and leaves its timer."""
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for cycle in (self._answering, *waiting):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stage = _ENDED
        self._set_timer(None)
        self._flows()
        self._gate.num_refusing -= self._is_refusing
        self._gate.leave(self)

    def data_received(self, data: bytes) -> None:
        """Feed the parser. Replaces uvicorn's, which reads on after a refusal."""
        if self._stage is _ENDED:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        if self._stage is _IDLE:
            self._begin()
        stage, self._has_progress = self._stage, False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            if self._stage is not _ENDED:
                self._refuse(self._failure)
            return
        if self._has_progress or self._stage is not stage:
            self._num_fed_bytes = 0
        else:
            self._num_fed_bytes += len(data)
            if self._num_fed_bytes > self._max_unfinished_bytes:
                self._refuse("headers_too_large")
                return
        self._settle()

    @property
    def _max_unfinished_bytes(self) -> int:
        """Bytes of a head that does not end, or of extensions and trailers without any body."""
        return self._settings.max_header_bytes + self._settings.max_target_bytes + LINE_BYTES

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Nobody is upgraded; clients that only offer it (curl --http2, Java) go on with HTTP/1.1. The parser
            # has stopped behind the request.
            if rest := data[upgrade.args[0] :]:
                self._feed(rest)

    def _begin(self) -> None:
        self._stage = _HEAD
        self._started_at = self.loop.time()
        self._num_fed_bytes = 0
        self.headers = []  # those of the request before say nothing about this one

    # Parser callbacks: what they raise ends in data_received as an HttpParserError.

    def on_message_begin(self) -> None:
        """A request's first byte that is not a blank line."""
        if self._stage is _ENDED:
            raise ValueError("the last request of this connection was before")
        if self._stage is _IDLE:
            self._begin()
        self._num_head_bytes = self._num_headers = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the target. Raises RequestFailedError."""
        super().on_url(url)
        if len(self.url) > self._settings.max_target_bytes:
            self._fail("uri_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer: those are counted and thrown away, where uvicorn would take them for headers.
        Raises RequestFailedError."""
        self._num_headers += 1
        self._num_head_bytes += len(name) + len(value) + 4
        if self._num_headers > self._max_headers or self._num_head_bytes > self._max_header_bytes:
            self._fail("headers_too_large")
        if self._stage is not _HEAD:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check what the parser leaves open, then begin to answer. Raises RequestFailedError and the parser's errors
        about the target."""
        version = self.parser.get_http_version()
        names = [name for name, _ in self.headers]
        if version == "1.0":
            self.expect_100_continue = False
        elif version != "1.1":
            self._fail("malformed_request")
        if names.count(b"host") != 1 and (version == "1.1" or b"host" in names):
            self._fail("malformed_request")
        if b"transfer-encoding" in names:
            codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
            if version == "1.0":
                self._fail("malformed_request")
            if codings != [b"chunked"]:
                self._fail("unsupported_content_encoding")
        if len(self.pipeline) >= MAX_PIPELINED:
            self._fail("overloaded")
        super().on_headers_complete()
        self._stage, self._num_head_bytes, self._num_headers = _BODY, 0, 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body. There may be a million of one byte: uvicorn's takes twice as long."""
        self._has_progress = True
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if not cycle.message_event.is_set():
            cycle.message_event.set()
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._has_progress = True
        super().on_message_complete()
        self._stage = _IDLE if self.cycle.keep_alive else _ENDED

    def _fail(self, code: str) -> None:
        self._failure = code
        raise RequestFailedError(code)

    # What becomes of it

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The next that waits is begun; behind the last one the connection ends."""
        self._answering = None
        super().on_response_complete()
        if self._stage is _ENDED and not self.pipeline and self._answering is None:
            self.transport.close()
        self._settle()

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    def _settle(self) -> None:
        """What the connection waits for may be another thing now."""
        stage = self._stage
        place: Place | None = None
        if stage is _IDLE or stage is _HEAD:
            answering = self._answering
            if answering is None or answering.response_complete:
                place = "idle" if stage is _IDLE else "unfinished"
        if place != self.place:
            self._gate.move(self, place)
        if stage is _IDLE:
            # uvicorn begins to wait with the reply, and stops with what comes next: the rest of that request's body
            if place and self.timeout_keep_alive_task is None and not self.transport.is_closing():
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            return
        deadline = self._deadline
        if deadline is not None and (self._timer is None or self._timer.when() > deadline):
            self._set_timer(deadline)

    @property
    def _deadline(self) -> float | None:
        if self._stage is _HEAD:
            return self._started_at + self._settings.header_timeout
        if self._stage is _BODY:
            return self._started_at + self._settings.receive_timeout
        return None

    def _set_timer(self, deadline: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if deadline is None else self.loop.call_at(deadline, self._check_deadline)

    def _check_deadline(self) -> None:
        """The timer is not stopped when a request is complete: most are before it would be worth one."""
        self._timer = None
        deadline = self._deadline
        if deadline is None:
            return
        if self.flow.read_paused:  # it is the server that does not read
            self._started_at = self.loop.time()
        elif self.loop.time() >= deadline - 0.001:
            delay = 0.0 if self._has_waited else self._gate.ending_delay(self.loop.time())
            self._has_waited = delay > 0.0
            if delay > 0.0:
                self._timer = self.loop.call_later(delay, self._check_deadline)
            else:
                self._refuse("request_timeout")
            return
        self._settle()

    def _refuse(self, code: str) -> None:
        """End what is being received, and the connection behind what is being answered."""
        stage, self._stage = self._stage, _ENDED
        if stage is _BODY:
            if self.pipeline and self.pipeline[0][0] is self.cycle:
                self.pipeline.popleft()
            elif self.cycle.response_complete:
                self.transport.close()
                return
            elif self.cycle.response_started:  # it is being sent, or waits for the rest of the body only
                self.cycle.keep_alive = self.cycle.more_body = False
                self.cycle.message_event.set()
                return
            else:
                self._answer_instead(self.cycle, code)
                return
        if self._is_answering:
            last = self.pipeline[0][0] if self.pipeline else self._answering
            assert last is not None
            last.keep_alive = False
            self._settle()
            return
        self._end(code, lingers=code != "request_timeout")

    def _answer_instead(self, cycle: RequestResponseCycle, code: str) -> None:
        """Of the application, which finds that the client has left and why. Its line in the log has the status."""
        state: dict[str, Any] = cycle.scope["state"]
        error = state["refusal"] = RequestFailedError(code)
        request_id = state.setdefault("request_id", request_id_of({"headers": self.headers}))
        self.transport.write(refusal(error, request_id, self.server_state.default_headers))
        cycle.disconnected = True
        cycle.message_event.set()
        self._answering = None
        self._linger(code != "request_timeout")

    def _end(self, code: str, lingers: bool) -> None:
        """Refuse what no application knows of: the line in the log and the count are made here."""
        self._stage = _ENDED
        is_silent = code == "request_timeout" and not self._num_fed_bytes and self.headers is None
        headers = self.headers or []
        error, request_id = RequestFailedError(code), request_id_of({"headers": headers})
        self.transport.write(refusal(error, request_id, self.server_state.default_headers))
        state = {
            "request_id": request_id,
            "error_code": code,
            "started_at": time.monotonic() - (self.loop.time() - self._started_at),
        }
        if not is_silent:  # browsers connect in advance: no request, no line
            log_access({"method": "", "path": "", "client": self.client, "state": state}, error.kind.status)
            self._gate.metrics.count_request("", error.kind.status, code)
        self._linger(lingers)

    def _linger(self, lingers: bool) -> None:
        """A client that still sends would see a reset instead of the reply if the server closed at once."""
        self._settle()
        if not lingers:
            self.transport.close()
            return
        self._num_fed_bytes = 0
        self.flow.resume_reading()
        self.transport.write_eof()
        self._set_timer(None)
        self._timer = self.loop.call_later(LINGER_TIMEOUT, self.transport.close)

    def _discard(self, num_bytes: int) -> None:
        self._num_fed_bytes += num_bytes
        if self._num_fed_bytes > LINGER_BYTES and not self._is_answering:
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has ended its side: it may wait for the reply, but most have left. True keeps the connection."""
        if not self._is_answering or self._stage in (_HEAD, _BODY):
            return False
        self._stage = _ENDED
        last = self.pipeline[0][0] if self.pipeline else self._answering
        assert last is not None
        last.keep_alive = False
        self._set_timer(None)
        self._timer = self.loop.call_later(HALF_CLOSE_TIMEOUT, self._give_up_answering)
        return True

    def _give_up_answering(self) -> None:
        if self._is_answering:
            self.transport.abort()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        if self._stall is None:
            self._gate.stalls(self, self.transport.get_write_buffer_size())
            self._stall = Stall(
                self.transport,
                self._settings.send_timeout,
                lambda num_bytes: self._gate.stalls(self, num_bytes),
                self._give_up_sending,
            )

    def resume_writing(self) -> None:
        """It has taken all."""
        self._flows()
        super().resume_writing()

    def _flows(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            self._gate.flows(self)

    def _give_up_sending(self) -> None:
        self._gate.metrics.count_closed("stalled")
        self.transport.abort()
