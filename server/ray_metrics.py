"""What `GET /metrics` of one engine says, in the metrics of Ray: counters and gauges as they are, of histograms sum and
count. Ray adds the replica's name to each series; label values are from the same closed sets as on our own page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Protocol

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from ray.serve import metrics as ray_metrics

from server.scrape import Scrape

INTERVAL = 5.0
"""Seconds. Ray's agent collects every ten unless it is told otherwise."""
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
                self.carry((await self._scrape.page()).decode())
            except Exception:  # border: a page that cannot be carried over is no reason to stop serving
                log.error("metrics did not reach Ray", exc_info=True)
            await asyncio.sleep(INTERVAL)

    def carry(self, page: str) -> None:
        """What has changed since the page before. A gauge that is no longer there is set to 0."""
        levels: set[_Series] = set()
        for family, sample in _samples(page):
            series = sample.name, tuple(sorted(sample.labels.items()))
            if family.type == "gauge":
                levels.add(series)
                self._sink(sample, family, "gauge").set(sample.value, sample.labels)
            elif (more := sample.value - self._totals.get(series, 0.0)) > 0:
                self._totals[series] = sample.value
                self._sink(sample, family, "counter").inc(more, sample.labels)
        for name, labels in self._levels - levels:
            self._sinks[name].set(0.0, dict(labels))
        self._levels = levels

    def _sink(self, sample: Sample, family: Metric, kind: str) -> Sink:
        if sample.name not in self._sinks:
            make = ray_metrics.Gauge if kind == "gauge" else ray_metrics.Counter
            name = sample.name.removesuffix("_total")
            self._sinks[sample.name] = make(name, family.documentation, tuple(sample.labels))
        return self._sinks[sample.name]


def _samples(page: str) -> Iterator[tuple[Metric, Sample]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if family.type == "gauge" or sample.name.endswith(_ADDING):
                yield family, sample
