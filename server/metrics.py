"""What requests count, in Prometheus' words; scrape.py adds what pools and the machine say.

Labels come from closed sets: names of models that there are, status codes, codes of errors.KINDS, stages. Observing
is on every request's way: the series of a model are looked up once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import orjson
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
)

from server.results import Origin

Closed = Literal["idle", "unfinished", "refused", "stalled"]
"""Why a connection was ended."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which no query asks for


class Metrics:
    """One server's counters, in a registry of their own: several servers may live in one process."""

    MEDIA_TYPE: ClassVar[str] = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.num_in_flight = 0
        """HTTP requests that have come and are not over."""
        self._requests = self._counter(
            "engine_requests",
            "Requests by model (empty: none was found), status (0: the client left before there was one) and error "
            "code (empty: none).",
            "model", "status", "code",
        )  # fmt: skip
        self._stages = Histogram(
            "engine_stage_seconds",
            "Time that answered requests spent in each stage that they went through; total is from the first byte.",
            ["model", "stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._connections = self._counter(
            "engine_connections_closed",
            "Connections that the server ended to make room (idle, unfinished, refused) or for a client that takes "
            "nothing (stalled).",
            "reason",
        )
        self._observers: dict[tuple[str, str], Callable[[float], None]] = {}
        self._vision = self._counter(
            "engine_vision_cache",
            "Answered requests to BLIP models by whether their image was encoded already (hit) or had to be (miss).",
            "model", "outcome",
        )  # fmt: skip
        self._cached = self._counter(
            "engine_response_cache",
            "Requests answered with a kept answer (hit) or by a run of their own (miss).",
            "model", "outcome",
        )  # fmt: skip
        self._deduplicated = self._counter(
            "engine_deduplicated", "Requests answered by the run of an equal one that was in flight.", "model"
        )
        self._fetches = self._counter(
            "engine_fetches",
            "Images fetched by URL, by outcome: ok, the error's code, or why the fetch failed.",
            "outcome",
        )
        self._listed = self._counter(
            "engine_listed_images",
            "Images of calls of /inference/batch, by model and the error's code, empty for an answer.",
            "model_id",
            "code",
        )
        self.lag = Histogram(
            "engine_event_loop_lag_seconds",
            "How much later than asked for the event loop woke up, a few times a second.",
            buckets=LAG_SECONDS,
            registry=self.registry,
        )

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def count_request(self, model_id: str, status: int, code: str = "") -> None:
        """One request is over. `model_id` is a name that was found, or empty; `code` one of KINDS, or empty."""
        self._requests.labels(model_id, str(int(status)), code).inc()

    def observe_stages(self, model_id: str, seconds: Mapping[str, float]) -> None:
        """How long an answered request took, by stage; one that took no time at all did not happen."""
        for stage, duration in seconds.items():
            if duration > 0:
                observe = self._observers.get((model_id, stage))
                if observe is None:
                    observe = self._observers[model_id, stage] = self._stages.labels(model_id, stage).observe
                observe(duration)

    def count_listed(self, model_id: str, code: str) -> None:
        """One image of a list is done. `model_id` and `code` as in `count_request`."""
        self._listed.labels(model_id, code).inc()

    def count_fetch(self, outcome: str) -> None:
        """One image was asked for by URL. `outcome` is a word of fetch.py or a code of KINDS."""
        self._fetches.labels(outcome).inc()

    def count_closed(self, reason: Closed) -> None:
        """The server ended a connection."""
        self._connections.labels(reason).inc()

    def count_vision(self, model_id: str, payload: bytes) -> None:
        """One answer of a BLIP model; its JSON says where the image came from."""
        is_cached = orjson.loads(payload).get("vision_cached")
        if is_cached is not None:
            self._vision.labels(model_id, "hit" if is_cached else "miss").inc()

    def count_sharing(self, model_id: str, origin: Origin, *, has_cache: bool) -> None:
        """One request is answered; without a cache there are no misses."""
        if origin == "shared":
            self._deduplicated.labels(model_id).inc()
        elif has_cache:
            self._cached.labels(model_id, origin).inc()
