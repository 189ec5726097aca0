"""`GET /metrics`: what requests have counted, and what pools and the machine say at this moment.

    event loop: state of the models, a consistent moment ──▶ thread: /proc, versions, text ──▶ event loop: reply
    GPUs: a thread of their own, asked meanwhile

One page is made at a time; all who ask meanwhile get the next, so a crowd costs no more than two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.body import BodyBudget
from server.gpu import Gpus
from server.machine_metrics import (
    WorkerAt,
    build_family,
    front_families,
    gpu_families,
    room_families,
    worker_families,
    workers_of,
)
from server.metrics import Metrics
from server.model_metrics import gauge, model_families
from server.registry import Registry
from server.response_cache import ResponseCache


class Scrape:
    """Makes the page of one server."""

    def __init__(
        self, metrics: Metrics, registry: Registry, budget: BodyBudget, cache: ResponseCache, gpus: Gpus
    ) -> None:
        self._metrics = metrics
        self._registry = registry
        self._budget = budget
        self._cache = cache
        self._gpus = gpus
        self._lock = asyncio.Lock()
        self._num_begun = 0
        self._newest = (0, b"")

    async def page(self) -> bytes:
        """Of `Metrics.MEDIA_TYPE`; nothing in it is older than the call."""
        asked = self._num_begun
        async with self._lock:
            number, page = self._newest
            if number <= asked:
                self._num_begun = number = self._num_begun + 1
                page = await self._make()
                self._newest = number, page
            return page

    async def _make(self) -> bytes:
        samples = await self._gpus.sample()
        families = [*self.families(), *gpu_families(samples)]
        workers = workers_of(self._registry.tally.pools)
        return await asyncio.to_thread(_render, self._metrics.registry, families, workers)

    def families(self) -> Iterator[Metric]:
        """All that needs the event loop."""
        registry, budget = self._registry, self._budget
        yield from model_families(registry.models.values(), registry.tally)
        yield from room_families(registry.room)
        values = {
            "engine_requests_in_flight": (
                "HTTP requests that have come and are not over.",
                self._metrics.num_in_flight,
            ),
            "engine_body_bytes": ("Bodies of requests that are held.", budget.num_bytes),
            "engine_body_limit_bytes": ("Bodies that may be held at once.", budget.max_bytes),
            "engine_response_cache_bytes": ("Size of the answers that are kept.", self._cache.num_bytes),
        }
        for name, (meaning, value) in values.items():
            yield gauge(name, meaning, [], [([], value)])


class _Page(Collector):
    """Families that were made already, with those of a registry."""

    def __init__(self, registry: CollectorRegistry, families: Iterable[Metric]) -> None:
        self._registry = registry
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
        yield from self._registry.collect()


def _render(registry: CollectorRegistry, families: Sequence[Metric], workers: Sequence[WorkerAt]) -> bytes:
    made = [build_family(), *families, *worker_families(workers), *front_families()]
    return generate_latest(_Page(registry, made))
