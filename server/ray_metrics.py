"""What `GET /metrics` of one engine says, in the metrics of Ray: counters and gauges as they are, of histograms sum and
count. Ray adds the replica's name to each series; label values are from the same closed sets as on our own page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from ray.serve import metrics as ray_metrics

from server.scrape import Scrape

INTERVAL = 5.0
"""Seconds. Ray's agent collects every ten unless it is told otherwise."""
_TAGS = {"replica": "model_replica"}
"""Labels whose names Ray keeps for its own."""
_ADDING = ("_total", "_sum", "_count")
_Series = tuple[str, tuple[tuple[str, str], ...]]

log = logging.getLogger(__name__)


class Sink(Protocol):
    """A counter or a gauge of Ray."""

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Of a counter."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Of a gauge."""


class RayMetrics:
    """One engine's page, carried over every few seconds by `run`."""

    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape
        self._sinks: dict[str, Sink] = {}
        self._totals: dict[_Series, float] = {}
        self._levels: set[_Series] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                page = (await self._scrape.page()).decode()
                await asyncio.to_thread(self.carry, page)  # tens of milliseconds where there are many models
            except Exception:  # border: a page that cannot be carried over is no reason to stop serving
                log.error("metrics did not reach Ray", exc_info=True)
            await asyncio.sleep(INTERVAL)

    def carry(self, page: str) -> None:
        """What has changed since the page before. A gauge that is no longer there is set to 0; a counter that is
        smaller than before has begun anew, as Prometheus has it. In any thread, one at a time."""
        levels: set[_Series] = set()
        for family, sample in _samples(page):
            tags = {_TAGS.get(label, label): value for label, value in sample.labels.items()}
            series = sample.name, tuple(sorted(tags.items()))
            if family.type == "gauge":
                levels.add(series)
                self._sink(sample.name, family, tags).set(sample.value, tags)
                continue
            before = self._totals.get(series, 0.0)
            self._totals[series] = sample.value
            if more := sample.value - before if sample.value >= before else sample.value:
                self._sink(sample.name, family, tags).inc(more, tags)
        for name, labels in self._levels - levels:
            self._sinks[name].set(0.0, dict(labels))
        self._levels = levels

    def _sink(self, name: str, family: Metric, tags: Mapping[str, str]) -> Sink:
        if name not in self._sinks:
            make: Any = ray_metrics.Gauge if family.type == "gauge" else ray_metrics.Counter
            self._sinks[name] = make(name.removesuffix("_total"), family.documentation, tuple(tags))
        return self._sinks[name]


def _samples(page: str) -> Iterator[tuple[Metric, Sample]]:
    lines = (
        line for line in page.splitlines() if "_bucket{" not in line
    )  # most of the page, and of no use here
    for family in text_string_to_metric_families("\n".join(lines)):
        for sample in family.samples:
            if family.type == "gauge" or sample.name.endswith(_ADDING):
                yield family, sample
