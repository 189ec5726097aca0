"""Spans for OpenTelemetry, made after the reply from the times that were taken anyway. Front process, one thread sends.

Off unless the extra ``otel`` is installed and the usual variables name a collector. Those are read by OpenTelemetry's
own library, as everybody who runs it expects, not from the settings.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from server.trace_context import TraceContext

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_UNTRACED = frozenset({"/healthz", "/readyz", "/livez", "/metrics"})
_BEFORE_REPLY = ("post", "infer", "queue", "decode", "fetch")
"""Stages from the last to the first: each ended where the one after it began."""
CLOSE_TIMEOUT = 2.0


def tracer_from(environment: Mapping[str, str]) -> Tracer | None:
    """None where nothing is to be sent; the log says why if a collector is named all the same."""
    wanted = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    is_off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or wanted == "none"
    if is_off or not any(environment.get(name) for name in _ENDPOINTS):
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if wanted != "otlp" or protocol != _PROTOCOL:
        log.warning("no traces are sent: only otlp over %s is known", _PROTOCOL)
        return None
    if not _is_installed():
        log.warning("no traces are sent: the extra `otel` is not installed")
        return None
    try:
        return Tracer()
    except ValueError as error:  # a variable that the library cannot read; the server serves without it
        log.warning("no traces are sent: %s", error)
        return None


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


class Tracer:
    """Makes the spans of a request and hands them to a thread that sends them in batches, or drops them."""

    def __init__(self, exporter: Any = None) -> None:
        """`exporter` replaces the one that the environment describes, for tests. Raises ValueError."""
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create()  # what it is given would win over the environment
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "inference-engine"}))
        self._api = trace
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("inference-engine")

    def record(self, scope: Scope, status: int, parent: TraceContext | None) -> str | None:
        """The spans of a request that is over. Returns its trace id; None where it is not traced."""
        if scope["path"] in _UNTRACED:
            return None
        state = scope["state"]
        ended = time.time_ns()
        started = ended - _nanoseconds(time.monotonic() - state["started_at"])
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            f"{method} {route}".rstrip(),
            context=self._context(parent),
            kind=self._api.SpanKind.SERVER,
            attributes=_attributes(state, method, route, status),
            start_time=started,
        )
        if span.is_recording():
            if status >= 500:
                span.set_status(self._api.StatusCode.ERROR)
            self._record_stages(span, started, state.get("stages", {}))
        span.end(ended)
        return f"{span.get_span_context().trace_id:032x}"

    def _context(self, parent: TraceContext | None) -> Any:
        """Of the caller's span; empty without one."""
        if parent is None:
            return self._api.set_span_in_context(self._api.INVALID_SPAN)
        context = self._api.SpanContext(
            int(parent.trace_id, 16), int(parent.span_id, 16), True, self._api.TraceFlags(parent.flags)
        )
        return self._api.set_span_in_context(self._api.NonRecordingSpan(context))

    def _record_stages(self, span: Any, started: int, seconds: Mapping[str, float]) -> None:
        """Stages follow each other without a gap until the answer was there: what lies before the first of them was
        reading the body, or waiting for a slot or a load."""
        context = self._api.set_span_in_context(span)
        end = started + _nanoseconds(seconds.get("total", 0.0))
        for stage in _BEFORE_REPLY:
            duration = _nanoseconds(seconds.get(stage, 0.0))
            if duration > 0:
                begin = max(started, end - duration)
                self._tracer.start_span(stage, context=context, start_time=begin).end(end)
                end = begin

    def close(self) -> None:
        """Send what there is, within CLOSE_TIMEOUT seconds: so a collector that is down delays no stop. Blocks."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT)


def _nanoseconds(seconds: float) -> int:
    return max(0, int(seconds * 1e9))


def _attributes(state: Mapping[str, Any], method: str, route: str, status: int) -> dict[str, Any]:
    """Names as OpenTelemetry's conventions for HTTP have them; values are bounded, none is a client's own text but
    the request id, which is 64 harmless characters at most."""
    attributes = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": int(status),
        "error.type": state.get("error_code", ""),
        "engine.request_id": state["request_id"],
        "engine.model_id": state.get("model_id", ""),
        "engine.batch_size": state.get("batch_size", 0),
        "engine.cache": state.get("cache", ""),
    }
    return {name: value for name, value in attributes.items() if value}
