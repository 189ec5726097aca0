"""Ten times what the server can do: does it still do what it can, and say no to the rest at once?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.chaos import census, timeline
from bench.chaos.asking import Clients
from bench.chaos.checks import at_least, at_most, nobody_harmed, none_of, nothing_leaked
from bench.chaos.journal import RIGHT, Asked, Journal
from bench.chaos.questions import Source
from bench.chaos.runs.storm import after
from bench.chaos.stage import Stage, fake_stage, real_stage
from bench.record import percentiles

_FACTOR = 10
_ENOUGH = 0.95
_PROBE_INTERVAL = 0.05
_MODEL = {"fake": {"seconds": 0.2}}
_LIMITS = {"max_queue_size": 16, "max_batch_size": 8}
"""One replica that does 8 in 0.2 s, so 40 a second; two batches may wait."""


@dataclass(frozen=True)
class Peak:
    """The smallest closed loop that does (nearly) all the server can do."""

    num_clients: int
    per_second: float
    latencies: dict[str, float]


def overload(seconds: float, peak_seconds: float, *, real: bool) -> dict[str, Any]:
    """The peak, then an open loop of ten times as many requests, then silence but for a probe."""
    one = {"replicas": 1, "limits": _LIMITS}
    with real_stage(num_replicas=1) if real else fake_stage(_MODEL, **one) as stage:
        before = census.take(stage.server, [stage.model])
        peak, journal, started, recovery = uvloop.run(_play(stage, seconds, peak_seconds))
        after_it = census.settled(stage.server, [stage.model], before)
        told = timeline.read(stage.server.log)
    refused = [asked for asked in journal.asked if asked.outcome == "queue_full"]
    goodput = _per_second(journal, started, seconds)
    accepted = journal.latencies()
    refusals = percentiles([asked.latency for asked in refused])
    harmless = [check for check in nobody_harmed(journal, told.answers) if check.name != "5xx"]
    others = sum(asked.outcome not in (RIGHT, "queue_full") for asked in journal.asked)
    return {
        "checks": [
            *harmless,
            none_of("neither answered nor refused as queue_full", others),
            nothing_leaked(before, after_it),
            at_least("goodput / peak", goodput / peak.per_second, 0.95),
            at_most("p99 of accepted / p99 at peak", accepted["p99"] / peak.latencies["p99"], 2.0),
            at_most("p99 of refusals", refusals["p99"], 0.010),
            at_most("recovery", recovery, 2.0),
        ],
        "model": "shapes-detect, default settings" if real else "fake, 8 in 200 ms, at most 16 waiting",
        "requests": len(journal.asked),
        "offered_per_second": len(journal.asked) / seconds,
        "outcomes": journal.outcomes,
        "peak": {
            "clients": peak.num_clients,
            "per_second": peak.per_second,
            "latency_seconds": peak.latencies,
        },
        "goodput_per_second": goodput,
        "latency_seconds": accepted,
        "refusal_seconds": refusals,
        "refusal_seconds_from_due": percentiles([asked.done_at - asked.due for asked in refused]),
        "refusal_seconds_inside_the_server": percentiles(told.refusals),
        "recovery_seconds": recovery,
    }


async def _play(stage: Stage, seconds: float, peak_seconds: float) -> tuple[Peak, Journal, float, float]:
    source = await stage.source()
    peak = await _find_peak(stage, source, peak_seconds)
    clients = Clients(stage.server.url, source, "overload", first=10**7)
    started = time.monotonic()
    _, recovery = await asyncio.gather(
        clients.open_loop(_FACTOR * peak.per_second, started + seconds),
        _recovery(stage, source, started + seconds, peak),
    )
    return peak, clients.journal, started, recovery


async def _find_peak(stage: Stage, source: Source, seconds: float) -> Peak:
    tried = []
    for num_clients in (8, 16, 24):
        clients = Clients(stage.server.url, source, f"peak{num_clients}", first=num_clients * 10**5)
        started = time.monotonic()
        await clients.closed_loop(num_clients, after(seconds))
        rate = _per_second(clients.journal, started, seconds)
        tried.append(Peak(num_clients, rate, clients.journal.latencies()))
    most = max(peak.per_second for peak in tried)
    return next(peak for peak in tried if peak.per_second >= _ENOUGH * most)


def _per_second(journal: Journal, started: float, seconds: float) -> float:
    def counts(asked: Asked) -> bool:
        return asked.outcome == RIGHT and asked.status == 200 and asked.done_at < started + seconds

    return sum(map(counts, journal.asked)) / seconds


async def _recovery(stage: Stage, source: Source, ends_at: float, peak: Peak) -> float:
    """Seconds from the last request of the overload to the first probe that is answered as quickly as at peak."""
    await asyncio.sleep(ends_at - time.monotonic())
    probe = Clients(stage.server.url, source, "probe", first=10**8)
    number = 10**8
    while True:
        await probe.ask(number, time.monotonic())
        asked, number = probe.journal.asked[-1], number + 1
        if asked.outcome == RIGHT and asked.latency <= peak.latencies["p99"]:
            probe.hang_up()
            return asked.sent_at - ends_at
        await asyncio.sleep(_PROBE_INTERVAL)
