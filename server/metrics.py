"""What is counted, in Prometheus' words. Labels come from closed sets: names of models that there are, status codes."""

from __future__ import annotations

from typing import ClassVar, Literal

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from server.results import Origin

Closed = Literal["idle", "unfinished", "refused", "stalled"]
"""Why a connection was ended."""


class Metrics:
    """One server's counters, in a registry of their own: several servers may live in one process."""

    MEDIA_TYPE: ClassVar[str] = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "engine_requests",
            "Requests by model (empty: none was found) and status code (0: the client left before there was one).",
            ["model", "status"],
            registry=self._registry,
        )
        self._connections = Counter(
            "engine_connections_closed",
            "Connections that the server ended to make room (idle, unfinished, refused) or for a client that takes "
            "nothing (stalled).",
            ["reason"],
            registry=self._registry,
        )
        self._vision = Counter(
            "engine_vision_cache",
            "Answered requests to BLIP models by whether their image was encoded already (hit) or had to be (miss).",
            ["model", "outcome"],
            registry=self._registry,
        )

        self._cached = Counter(
            "engine_response_cache",
            "Requests answered with a kept answer (hit) or by a run of their own (miss).",
            ["model", "outcome"],
            registry=self._registry,
        )
        self._deduplicated = Counter(
            "engine_deduplicated",
            "Requests answered by the run of an equal one that was in flight.",
            ["model"],
            registry=self._registry,
        )

    def count_request(self, model_id: str, status: int) -> None:
        """One request is over. `model_id` is a name that was found, or empty."""
        self._requests.labels(model_id, str(int(status))).inc()

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

    def render(self) -> bytes:
        """The page for Prometheus, of `MEDIA_TYPE`."""
        return generate_latest(self._registry)
