"""Around every request: its id, a line in the access log, a count, and the last resort when something broke."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import RequestFailedError
from server.log import MAX_TEXT
from server.metrics import Metrics
from server.replies import ErrorReply
from server.trace_context import trace_context
from server.tracing import Tracer

log = logging.getLogger("server.access")
_PROBES = frozenset({"/healthz", "/readyz", "/livez"})
_CLOSE = (b"connection", b"close")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
"""A reply is what its content type says, whatever a browser would make of a client's words in it."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestScope:
    """Pure ASGI. Puts `request_id` and `started_at` (monotonic seconds) into ``scope["state"]``.

    An ``X-Request-Id`` that is not 1 to 64 letters, digits, dots, dashes or underscores is replaced by one of
    ours; the reply carries it as a header. While `is_leaving()`, every reply closes its connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        is_leaving: Callable[[], bool] = lambda: False,
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._is_leaving = is_leaving
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, log and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["started_at"] = time.monotonic()
        state["request_id"] = request_id = state.get("request_id") or request_id_of(scope)
        status = 0
        self._metrics.num_in_flight += 1

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode("ascii")), _NOSNIFF]
                if self._is_leaving():
                    headers = [pair for pair in headers if pair[0] != b"connection"] + [_CLOSE]
                message["headers"] = headers
            await send(message)

        try:
            if "refusal" not in state:
                await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            # The server cancels requests only when it stops. The task ends here either way, so the client
            # is told instead of being cut off.
            if status == 0:
                await ErrorReply(RequestFailedError("shutting_down"), scope)(scope, receive, send_and_note)
        except Exception:  # the border: nothing unforeseen may reach the client as a traceback or a reset
            log.exception("request failed unexpectedly", extra={"request_id": request_id})
            if status:
                raise  # too late for another reply; uvicorn closes the connection
            await ErrorReply(RequestFailedError("internal"), scope)(scope, receive, send_and_note)
        finally:
            if refusal := state.get("refusal"):  # the connection has answered, whatever came of this
                status, state["error_code"] = refusal.kind.status, refusal.code
            # the name stands in the state only once it was found, so it is one of those that there are
            self._metrics.count_request(state.get("model_id", ""), status, state.get("error_code", ""))
            self._metrics.num_in_flight -= 1
            self._trace(scope, status)
            log_access(scope, status)

    def _trace(self, scope: Scope, status: int) -> None:
        """Put the trace into the state for the access log: the client's, or the one that is recorded here."""
        context = trace_context(scope["headers"])
        trace_id = context.trace_id if context is not None else None
        if self._tracer is not None:
            try:
                trace_id = self._tracer.record(scope, status, context) or trace_id
            except Exception:  # border to a library that is not needed to answer: the request is over
                log.exception("no trace of this request", extra={"request_id": scope["state"]["request_id"]})
        if trace_id is not None:
            scope["state"]["trace_id"] = trace_id


def request_id_of(scope: Scope) -> str:
    """What the client calls its request if that is plain, else a name of ours."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(128):032x}"  # unique is enough; a secret would cost a system call


def log_access(scope: Scope, status: int) -> None:
    """One line of what became of a request."""
    # Probes come every few seconds and say nothing as long as they are answered.
    level = logging.DEBUG if scope["path"] in _PROBES and status == 200 else logging.INFO
    if not log.isEnabledFor(level):
        return
    state = scope["state"]
    client = scope.get("client")
    fields = {
        "request_id": state["request_id"],
        "method": scope["method"][:MAX_TEXT],
        "path": scope["path"][:MAX_TEXT],
        "status": int(status) or None,  # None: the client left before there was one
        "duration_ms": round((time.monotonic() - state["started_at"]) * 1000, 3),
        "client": client[0] if client else None,
    }
    named = (
        "key_id",
        "model_id",
        "error_code",
        "batch_size",
        "num_images",
        "num_failed",
        "cache",
        "trace_id",
    )
    fields |= {name: state[name] for name in named if name in state}
    log.log(level, "request", extra=fields)
