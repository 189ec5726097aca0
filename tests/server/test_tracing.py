"""Spans as a collector gets them, over HTTP; and that nobody waits for one that is down."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import importlib.util
import itertools
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from server import tracing
from server.metrics import Metrics
from server.middleware import RequestScope
from server.trace_context import TraceContext
from server.tracing import Tracer, tracer_from
from tests.server.conftest import Running, serving, until
from tests.server.images import encode, scene
from tests.server.test_trace_context import SPAN, TRACE

needs_extra = pytest.mark.skipif(not tracing._is_installed(), reason="the extra `otel` is not installed")
IMAGE = encode(scene())
PARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ENDPOINT, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds


class Collector:
    """What speaks OTLP over HTTP; keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                assert head.startswith("post /v1/traces ")
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(headers["content-length"]))
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
                    self.spans += [span for scope in group.scope_spans for span in scope.spans]
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
                )
        writer.close()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@contextlib.asynccontextmanager
async def collecting(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Collector, Running]]:
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", 0)
    collector.port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{collector.port}")
    try:
        async with serving() as running:
            yield collector, running
    finally:
        server.close()


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


@needs_extra
async def test_a_request_is_a_span_of_its_callers_trace_with_a_child_for_each_stage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with collecting(monkeypatch) as (collector, running):
        running.client.headers.update(PARENT)
        with caplog.at_level("INFO", "server.access"):
            began = time.time_ns()
            assert (await running.infer(IMAGE)).status_code == 200
            assert (await running.infer(b"nothing")).status_code == 422
            ended = time.time_ns()
            await running.client.get("/livez")
            await running.client.get("/metrics")
            await running.client.get("/models/" + "x" * 500)
            await until(lambda: len(collector.spans) >= 6)
    assert collector.resource["service.name"] == "inference-engine"
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    good, bad = sorted(collector.named("POST /inference"), key=lambda span: span.start_time_unix_nano)
    assert (good.parent_span_id.hex(), bad.parent_span_id.hex()) == (SPAN, SPAN)
    assert good.kind == 2, "a server's span"
    assert began - 10**7 <= good.start_time_unix_nano < good.end_time_unix_nano <= ended + 10**7
    told = attributes(good)
    assert (told["http.response.status_code"], told["engine.model_id"], told["engine.batch_size"]) == (
        200,
        "echo",
        1,
    )
    assert attributes(bad)["error.type"] == "image_undecodable"
    stages = [span for span in collector.spans if span.parent_span_id == good.span_id]
    assert {span.name for span in stages} <= {"decode", "queue", "infer", "post"}
    assert {span.name for span in stages} >= {"decode", "queue", "infer"}
    ordered = sorted(stages, key=lambda span: span.start_time_unix_nano)
    for before, after in itertools.pairwise(ordered):
        assert before.end_time_unix_nano <= after.start_time_unix_nano
    assert good.start_time_unix_nano <= ordered[0].start_time_unix_nano
    assert ordered[-1].end_time_unix_nano <= good.end_time_unix_nano
    assert [span for span in collector.spans if span.parent_span_id == bad.span_id] == []
    (unknown,) = collector.named("GET /models/{model_id}")
    assert all(len(str(value)) < 100 for value in attributes(unknown).values())
    assert not [span for span in collector.spans if "livez" in span.name or "metrics" in span.name]
    lines = [vars(record) for record in caplog.records if record.name == "server.access"]
    assert {line["trace_id"] for line in lines} == {TRACE}


@needs_extra
def test_a_request_without_a_caller_begins_a_trace_and_one_that_the_caller_does_not_record_sends_nothing() -> (
    None
):
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    tracer = Tracer(kept)
    scope = {
        "path": "/models",
        "method": "BREW",
        "state": {"started_at": time.monotonic(), "request_id": "mine"},
    }
    assert tracer.record(scope, 405, TraceContext(TRACE, SPAN, 0)) == TRACE
    begun = tracer.record(scope, 405, None)
    assert tracer.record({**scope, "path": "/healthz"}, 200, None) is None
    tracer.close()
    (span,) = kept.get_finished_spans()
    assert begun == f"{span.context.trace_id:032x}" != TRACE
    assert span.parent is None and span.name == "_OTHER"


@needs_extra
@pytest.mark.parametrize("fault", ["refuses", pytest.param("is silent", marks=pytest.mark.slow)])
async def test_a_collector_that_is_down_costs_no_request_and_no_stop_anything(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    num_open = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal num_open
        num_open += 1
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()
        num_open -= 1

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # seconds
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    if fault == "refuses":
        silent.close()
        await silent.wait_closed()
    async with serving() as running:
        started = time.monotonic()
        for _ in range(20):  # more spans than the queue has room for
            assert (await running.client.get("/models/echo", headers=PARENT)).status_code == 200
        assert (await running.infer(IMAGE)).status_code == 200
        assert time.monotonic() - started < 10
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 10
    await until(lambda: num_open == 0)
    silent.close()
    assert not [record for record in caplog.records if record.name == "server.access" and record.exc_info]


@pytest.mark.parametrize("header", [PARENT["traceparent"], None, "nonsense"])
async def test_without_a_collector_the_log_still_has_the_callers_trace_id(
    header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        return None

    headers = [] if header is None else [(b"traceparent", header.encode())]
    scope = {"type": "http", "method": "GET", "path": "/models", "headers": headers}
    with caplog.at_level(logging.INFO, "server.access"):
        await RequestScope(app, Metrics())(scope, send, send)  # type: ignore[arg-type]
    (line,) = [vars(record) for record in caplog.records if record.name == "server.access"]
    assert line.get("trace_id") == (TRACE if header == PARENT["traceparent"] else None)


async def test_a_tracer_that_fails_breaks_neither_the_request_nor_its_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def record(self, scope: Any, status: int, parent: Any) -> str:
            raise RuntimeError("a fault of the library")

    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    metrics = Metrics()
    scope = {"type": "http", "method": "GET", "path": "/models", "headers": []}
    await RequestScope(app, metrics, tracer=Broken())(scope, send, send)  # type: ignore[arg-type]
    assert [message["status"] for message in sent] == [200]
    assert metrics.num_in_flight == 0
    assert any(record.exc_info for record in caplog.records)


ON = {ENDPOINT: "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {**ON, "OTEL_SDK_DISABLED": "TRUE"},
        {**ON, "OTEL_TRACES_EXPORTER": "none"},
        {**ON, "OTEL_TRACES_EXPORTER": "console"},
        {**ON, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_traces_are_off_unless_a_collector_is_named_that_can_be_spoken_to(
    environment: dict[str, str],
) -> None:
    assert tracer_from(environment) is None


def test_without_the_extra_a_named_collector_is_a_warning_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert tracer_from(ON) is None
    assert "the extra `otel` is not installed" in caplog.text
