"""What models and their pools say of themselves, as metric families; read when scraped, counted nowhere twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from pool import Pool
from pool.replica import State
from server.served import Served
from server.tally import Tally

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Upper bounds of the buckets; a batch has entries, so 3 to 4 are counted under 4."""
MODEL_STATES = ("unloaded", "loading", "ready", "crash_looping", "draining", "failed", "stopped")

USUAL_REASONS = (
    "hang",
    "oom_kill",
    "sigsegv",
    "sigabrt",
    "sigkill",
    "device_fault",
    "load_failed",
    "stopped",
)
"""Of deaths that are told as 0 before the first: of a series that begins with 1 `increase` sees nothing."""
LOAD_OUTCOMES = ("ready", "failed", "refused", "given_up")
RELOAD_OUTCOMES = ("ready", "failed", "given_up")
UNLOAD_REASONS = ("asked", "room")

Row = tuple[Sequence[str], float]


def gauge(name: str, meaning: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """A gauge with a value for each row of label values."""
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def counter(name: str, meaning: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """The same for a counter; `name` without ``_total``."""
    family = CounterMetricFamily(name, meaning, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def model_families(models: Collection[Served], tally: Tally) -> Iterator[Metric]:
    """All of them, on the event loop. Models that are neither loaded nor required have no gauges."""
    tally.look()
    shown = [served for served in models if served.is_required or served.state != "unloaded"]
    yield gauge(
        "engine_model_ready",
        "1 if at least one replica of the model serves.",
        ["model"],
        (([served.model_id], served.is_ready) for served in shown),
    )
    yield gauge(
        "engine_model_required",
        "1 if readiness waits for the model.",
        ["model"],
        (([served.model_id], served.is_required) for served in shown),
    )
    yield gauge(
        "engine_model_state",
        "1 for the state that the model is in, else 0.",
        ["model", "state"],
        (([served.model_id, state], served.state == state) for served in shown for state in MODEL_STATES),
    )
    names = {*(served.model_id for served in shown), *tally.counters()}
    yield from _pool_gauges(tally.pools)
    yield from _pool_counters(tally)
    yield counter(
        "engine_model_loads",
        "Loads by how they ended: ready, failed, refused (no room for it), given_up.",
        ["model", "outcome"],
        _with_zeros(tally.loads, names, LOAD_OUTCOMES),
    )
    yield counter(
        "engine_model_unloads",
        "Unloads of models, asked for by an operator or to make room for another.",
        ["model", "reason"],
        _with_zeros(tally.unloads, names, UNLOAD_REASONS),
    )
    yield counter(
        "engine_model_reloads",
        "Reloads by how they ended: ready, failed, given_up.",
        ["model", "outcome"],
        _with_zeros(tally.reloads, names, RELOAD_OUTCOMES),
    )


def _with_zeros(
    counted: Counter[tuple[str, str]], names: Collection[str], words: Sequence[str]
) -> Iterable[Row]:
    """A series that was told once is told for ever: also of a model that is not loaded any more."""
    names = {*names, *(model for model, _ in counted)}
    zeros = {(model, word): 0 for model in names for word in words}
    return sorted({**zeros, **counted}.items())


def _pool_gauges(pools: Collection[Pool]) -> Iterator[Metric]:
    """While a model is reloaded it has two pools: what they have is added up."""
    sums = {name: Counter[str]() for name in ("queue_length", "in_flight", "total", "free")}
    replicas: Counter[tuple[str, str, str]] = Counter()
    for pool in pools:
        snapshot = pool.snapshot()
        sums["queue_length"][pool.name] += snapshot["queue_length"]
        sums["in_flight"][pool.name] += snapshot["in_flight"]
        for name, number in snapshot["slots"].items():
            sums[name][pool.name] += number
        for replica in pool.replicas:
            replicas.update(dict.fromkeys(((pool.name, replica.placement.label, s.value) for s in State), 0))
            replicas[pool.name, replica.placement.label, replica.state.value] += 1
    gauges = {
        "engine_queue_length": ("Entries that wait for a replica.", "queue_length"),
        "engine_entries_running": ("Entries that a worker has.", "in_flight"),
        "engine_slots": ("Slots in the model's slab, 0 before there is one.", "total"),
        "engine_slots_free": ("Slots that nobody holds.", "free"),
    }
    for name, (meaning, key) in gauges.items():
        yield gauge(name, meaning, ["model"], (([model], value) for model, value in sums[key].items()))
    yield gauge(
        "engine_replicas", "Replicas by state.", ["model", "device", "state"], sorted(replicas.items())
    )


def _pool_counters(tally: Tally) -> Iterator[Metric]:
    counters = tally.counters()
    plain = {
        "engine_replays": ("Entries that ran again because their worker died.", "replays"),
        "engine_poison": ("Entries condemned because every worker that had them died.", "poison"),
        "engine_quarantined": ("Entries refused because their like was condemned lately.", "quarantined"),
    }
    for name, (meaning, key) in plain.items():
        yield counter(
            name, meaning, ["model"], (([model], counted[key]) for model, counted in counters.items())
        )
    yield counter(
        "engine_worker_deaths",
        "Workers that ended, by reason: stopped is by wish, others are not.",
        ["model", "reason"],
        _by_reason(counters, "deaths_", USUAL_REASONS),
    )
    yield counter(
        "engine_workers_recycled",
        "Workers replaced because they had grown or were old.",
        ["model", "reason"],
        _by_reason(counters, "recycled_"),
    )
    yield _batch_sizes(tally.batch_sizes())


def _by_reason(counters: Mapping[str, Counter[str]], prefix: str, usual: Sequence[str] = ()) -> Iterable[Row]:
    sums: Counter[tuple[str, str]] = Counter()
    for model, counted in counters.items():
        sums.update({(model, reason): 0 for reason in usual})
        for name, number in counted.items():
            if name.startswith(prefix):
                sums[model, _reason(name.removeprefix(prefix))] += number
    return sums.items()


def _reason(word: str) -> str:
    """A foreign library may end a process with any code: there are 256, and the log says which it was."""
    return next((f"{kind}other" for kind in ("exit_", "signal_") if word.startswith(kind)), word)


def _batch_sizes(sizes: Mapping[str, Counter[int]]) -> Metric:
    family = HistogramMetricFamily(
        "engine_batch_size", "Batches by how many entries they had.", labels=["model"]
    )
    for model, counted in sizes.items():
        buckets = [
            (str(float(bound)), float(sum(number for size, number in counted.items() if size <= bound)))
            for bound in BATCH_SIZES
        ]
        buckets.append(("+Inf", float(counted.total())))
        family.add_metric([model], buckets, math.fsum(size * number for size, number in counted.items()))
    return family
