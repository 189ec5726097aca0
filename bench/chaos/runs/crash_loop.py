"""A model whose workers die while they load, beside one that is well."""

from __future__ import annotations

import statistics
import time
from typing import Any

import httpx
import uvloop

from bench.chaos import census
from bench.chaos.asking import Clients
from bench.chaos.checks import at_most, none_of
from bench.chaos.journal import RIGHT, Journal
from bench.chaos.runs.storm import after
from bench.chaos.stage import Stage, fake_stage

_MODELS: dict[str, dict[str, Any]] = {
    "fake": {"seconds": 0.02},
    "loops": {"dies_loading": True, "loads_at_start": False},
}
_BREAKER_FAILURES = 5
_OPEN_TIMEOUT = 60.0
_MAX_CPU = 0.05
_MAX_RATIO = 1.25


def crash_loop(
    idle_seconds: float, num_pairs: int, pair_seconds: float, num_clients: int = 8
) -> dict[str, Any]:
    """Processor time of the loop for `idle_seconds`; then pairs of `pair_seconds` of load with and without it."""
    with fake_stage(_MODELS) as stage:
        _begin(stage)
        cpu = _share_of_a_core(stage, idle_seconds)
        ratios, requests, others = [], 0, 0
        for number in range(num_pairs):
            p99 = {}
            for loops in (True, False) if number % 2 else (False, True):
                (_begin if loops else _end)(stage)
                journal = uvloop.run(_ask(stage, f"pair{number}{loops}", num_clients, pair_seconds))
                p99[loops] = journal.latencies()["p99"]
                requests += len(journal.asked)
                others += sum(asked.outcome != RIGHT for asked in journal.asked)
            ratios.append(p99[True] / p99[False])
        _end(stage)
    return {
        "checks": [
            none_of("not answered rightly", others),
            at_most("share of a core, breaker open", sum(cpu.values()), _MAX_CPU),
            at_most("median of p99 with / without", statistics.median(ratios), _MAX_RATIO),
        ],
        "requests": requests,
        "cores": cpu,
        "ratios": ratios,
    }


def _begin(stage: Stage) -> None:
    """Load the looping model, if it is not there, and wait until its breaker is open."""
    url = stage.server.url
    if "loops" not in stage.server.get("/chaos")["counters"]:
        httpx.post(f"{url}/models/loops/load", timeout=30).raise_for_status()
    deadline = time.monotonic() + _OPEN_TIMEOUT
    while stage.server.get("/chaos")["counters"].get("loops", {}).get("deaths_exit_3", 0) < _BREAKER_FAILURES:
        if time.monotonic() > deadline:
            raise TimeoutError("the breaker did not open")
        time.sleep(0.05)


def _end(stage: Stage) -> None:
    httpx.post(f"{stage.server.url}/models/loops/unload", timeout=30).raise_for_status()


def _share_of_a_core(stage: Stage, seconds: float) -> dict[str, float]:
    """Of the looping model's forkserver with all its workers, and of the front, while nobody asks anything."""
    pids = {"loops": stage.server.get("/chaos")["forkservers"]["loops"], "front": stage.server.process.pid}
    before = {name: census.cpu_seconds(pid) for name, pid in pids.items()}
    started = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    return {name: (census.cpu_seconds(pid) - before[name]) / passed for name, pid in pids.items()}


async def _ask(stage: Stage, name: str, num_clients: int, seconds: float) -> Journal:
    clients = Clients(stage.server.url, await stage.source(), name)
    await clients.closed_loop(num_clients, after(seconds))
    return clients.journal
