"""Every metric with its kind, labels and meaning, from the objects that make it: the README's table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from pool import Pool
from server.body import BodyBudget
from server.gpu import Gpus
from server.loading import Policy
from server.machine_metrics import build_family, front_families, gpu_families, worker_families
from server.metrics import Metrics
from server.registry import Registry
from server.response_cache import ResponseCache
from server.room import Room, Surroundings
from server.scrape import Scrape
from server.table import Known


@dataclass(frozen=True, slots=True)
class Described:
    """`kind`: ``counter``, ``gauge`` or ``histogram``; `name` is that of the page, for a counter with ``_total``."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def described() -> Mapping[str, Described]:
    """By name, those of a server without models too: its families are there, only without samples."""
    metrics = Metrics()
    found = [*_of_families(_idle(metrics).families()), *_of_requests(metrics)]
    found += _of_families([*gpu_families([]), *worker_families([]), build_family(), *front_families()])
    return {each.name: each for each in sorted(found, key=lambda each: each.name)}


def metrics_table() -> str:
    """As markdown."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.meaning} |"
        for each in described().values()
    ]
    return "\n".join(["| name | kind | labels | meaning |", "|---|---|---|---|", *rows])


def _idle(metrics: Metrics) -> Scrape:
    """Of a server that knows no model."""

    def make_pool(known: Known) -> Pool:
        raise KeyError(known.entry.model_id)

    room = Room(1, Surroundings(dict, lambda known: (), lambda known: None, 1))
    registry = Registry({}, Policy(), make_pool, room)
    return Scrape(metrics, registry, BodyBudget(0), ResponseCache(0), Gpus(()))


def _of_families(families: Iterator[Metric] | list[Metric]) -> Iterator[Described]:
    for family in families:
        labels = tuple(getattr(family, "_labelnames", ()))
        yield _described(family.name, family.type, labels, family.documentation)


def _of_requests(metrics: Metrics) -> Iterator[Described]:
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            family = next(iter(metric.describe()))
            yield _described(family.name, family.type, tuple(metric._labelnames), family.documentation)


def _described(name: str, kind: str, labels: tuple[str, ...], meaning: str) -> Described:
    return Described(f"{name}_total" if kind == "counter" else name, kind, labels, meaning)
