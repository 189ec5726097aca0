"""Faults at random under load: the calm before, the storm, and what is left after it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.chaos import census, timeline
from bench.chaos.asking import Clients
from bench.chaos.census import Census
from bench.chaos.checks import Check, at_most, nobody_harmed, none_of, nothing_leaked
from bench.chaos.faultlog import FaultLog
from bench.chaos.injector import ORDERS, SIGNALS, Injector
from bench.chaos.journal import Asked, Journal
from bench.chaos.stage import Stage, fake_stage, real_stage
from bench.chaos.timeline import Timeline
from bench.record import percentiles

_SIBLING_UP_DELAY = 0.150
_SPAWN_SECONDS = 0.3
_PATIENT_LIMITS = {"min_batch_timeout": 2.0, "first_batch_timeout": 5.0}
"""A hang is found after 2 s here, not after the 10 s of the defaults, so that a run has many."""

ALL_FAULTS = (*SIGNALS, *ORDERS)


@dataclass(frozen=True)
class Weather:
    """`interval` seconds between faults out of `faults`, for `seconds`, after `calm_seconds` without any."""

    faults: Sequence[str]
    interval: float
    seconds: float
    calm_seconds: float
    num_clients: int = 32


@dataclass(frozen=True)
class Storm:
    """What was seen."""

    calm: Journal
    busy: Journal
    injected: Sequence[tuple[str, int, float]]
    timeline: Timeline
    before: Census
    after: Census


def kill(seconds: float, interval: float, *, real: bool, calm_seconds: float = 10.0) -> dict[str, Any]:
    """SIGKILL to a random worker every `interval` seconds, with two replicas and 32 clients."""
    weather = Weather(["kill"], interval, seconds, calm_seconds)
    models = {"fake": {"seconds": 0.02, "load_seconds": 0.05}}
    with real_stage() if real else fake_stage(models) as stage:
        storm = _play(stage, weather)
    return {
        "checks": [*_basic_checks(storm), *_speed_checks(storm)],
        "model": "shapes-detect" if real else "fake, 20 ms a batch, 50 ms to load",
        **_figures(storm),
    }


def mixed(seconds: float, interval: float, calm_seconds: float = 10.0) -> dict[str, Any]:
    """Every kind of fault at random, with two replicas and 32 clients."""
    weather = Weather(ALL_FAULTS, interval, seconds, calm_seconds)
    with fake_stage(limits=_PATIENT_LIMITS) as stage:
        storm = _play(stage, weather)
        assert stage.folder is not None
        faults = FaultLog(stage.folder).read()
    condemned = [
        {"request": asked.request_id, "hit_by": [fault for fault in faults if asked.key in fault["hit"]]}
        for asked in storm.busy.with_status(422)
    ]
    return {
        "checks": [
            *_basic_checks(storm),
            none_of("innocents condemned", len(condemned)),
            none_of("422 that no fault explains", sum(not one["hit_by"] for one in condemned)),
        ],
        "condemned": condemned,
        "faults": dict(Counter(fault["fault"] for fault in faults)),
        **_figures(storm),
    }


def _play(stage: Stage, weather: Weather) -> Storm:
    before = census.take(stage.server, [stage.model])
    calm, busy, injected = uvloop.run(_ask(stage, weather))
    after = census.settled(stage.server, [stage.model], before)
    return Storm(calm, busy, injected, timeline.read(stage.server.log), before, after)


async def _ask(stage: Stage, weather: Weather) -> tuple[Journal, Journal, Sequence[tuple[str, int, float]]]:
    source = await stage.source()
    calm = Clients(stage.server.url, source, "calm")
    await calm.closed_loop(weather.num_clients, after(weather.calm_seconds))
    busy = Clients(stage.server.url, source, "busy", first=10**6)
    injector = Injector(stage.server.url, stage.model, weather.faults, stage.folder)
    is_over = after(weather.seconds)
    await asyncio.gather(
        busy.closed_loop(weather.num_clients, is_over), injector.run(weather.interval, is_over)
    )
    return calm.journal, busy.journal, injector.injected


def after(seconds: float) -> Callable[[], bool]:
    """Tells whether so much time has passed since now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _basic_checks(storm: Storm) -> list[Check]:
    return [
        *nobody_harmed(storm.busy, storm.timeline.answers),
        none_of("not answered with 200", sum(a.status not in (200, 422) for a in storm.busy.asked)),
        nothing_leaked(storm.before, storm.after),
    ]


def _speed_checks(storm: Storm) -> list[Check]:
    calm = storm.calm.latencies()["p99"]
    accompanied = storm.busy.latencies(_with_a_sibling(storm))["p99"]
    recoveries = storm.timeline.recoveries(storm.injected)
    excess = percentiles([one.seconds - one.load_seconds for one in recoveries])
    return [
        at_most("p99 while a replica is up", accompanied, calm + _SIBLING_UP_DELAY),
        at_most("median from kill to serving, without loading", excess["p50"], _SPAWN_SECONDS),
        at_most("p90 from kill to serving, without loading", excess["p90"], _SPAWN_SECONDS),
    ]


def _with_a_sibling(storm: Storm) -> list[Asked]:
    """Requests during which at least one replica was up all the time."""
    wall = time.time() - time.monotonic()
    gaps = [(start - wall, end - wall) for start, end in storm.timeline.gaps()]
    return [
        asked
        for asked in storm.busy.asked
        if not any(start < asked.done_at and asked.sent_at < end for start, end in gaps)
    ]


def _figures(storm: Storm) -> dict[str, Any]:
    recoveries = storm.timeline.recoveries(storm.injected)
    return {
        "requests": len(storm.busy.asked),
        "outcomes": storm.busy.outcomes,
        "injected": dict(Counter(fault for fault, _, _ in storm.injected)),
        "deaths": dict(storm.timeline.deaths),
        "seconds_without_a_replica": sum(end - start for start, end in storm.timeline.gaps()),
        "calm_latency_seconds": storm.calm.latencies(),
        "latency_seconds": storm.busy.latencies(),
        "recovery_seconds": percentiles([one.seconds for one in recoveries]) if recoveries else None,
        "load_seconds": percentiles([one.load_seconds for one in recoveries]) if recoveries else None,
    }
