"""One picture in so many kills its worker, every time: who else suffers, and what does it cost?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import uvloop

from bench.chaos import census, timeline
from bench.chaos.asking import Clients
from bench.chaos.checks import Check, nobody_harmed, none_of, nothing_leaked
from bench.chaos.faultlog import FaultLog
from bench.chaos.journal import RIGHT, Journal
from bench.chaos.stage import Stage, fake_stage

_MAX_WORKERS = 3
"""One in company, two alone."""


def poison(num_requests: int, every: int, num_clients: int = 32) -> dict[str, Any]:
    """`num_requests` of which one in `every` is poison, then all the poison once more."""
    with fake_stage() as stage:
        before = census.take(stage.server, [stage.model])
        journal = uvloop.run(_ask(stage, num_requests, every, num_clients))
        assert stage.folder is not None
        killed = Counter(
            culprit
            for fault in FaultLog(stage.folder).read()
            if fault["fault"] == "poison"
            for culprit in fault["culprits"]
        )
        deaths = stage.num_deaths
        again = uvloop.run(_ask_again(stage, journal, every))
        num_deaths_again = stage.num_deaths - deaths
        after = census.settled(stage.server, [stage.model], before)
        answers = timeline.read(stage.server.log).answers
    num_poison = len(
        {int(a.request_id.rpartition("-")[2]) for a in journal.asked if _is_poison(a.request_id, every)}
    )
    refused = journal.with_status(422)
    checks = [
        *nobody_harmed(journal, answers),
        none_of("others that failed", sum(asked.outcome != RIGHT for asked in journal.asked)),
        Check("failures", len(refused), f"{num_poison}, one per poison", len(refused) == num_poison > 0),
        _most_killed(killed),
        none_of("workers killed by resubmission", num_deaths_again),
        none_of("resubmitted and not refused", sum(asked.status != 422 for asked in again.asked)),
        nothing_leaked(before, after),
    ]
    return {
        "checks": checks,
        "requests": len(journal.asked),
        "poison": num_poison,
        "workers_killed_per_poison": dict(sorted(Counter(killed.values()).items())),
        "latency_seconds": journal.latencies(),
    }


def _most_killed(killed: Counter[int]) -> Check:
    most = max(killed.values(), default=0)
    return Check("most workers killed by one", most, f"1 to {_MAX_WORKERS}", 1 <= most <= _MAX_WORKERS)


def _is_poison(request_id: str, every: int) -> bool:
    return int(request_id.rpartition("-")[2]) % every == every // 2


async def _ask(stage: Stage, num_requests: int, every: int, num_clients: int) -> Journal:
    clients = Clients(stage.server.url, await stage.source(poison_every=every), "first")
    num_asked = 0

    def is_over() -> bool:
        nonlocal num_asked
        num_asked += 1
        return num_asked > num_requests

    await clients.closed_loop(num_clients, is_over)
    return clients.journal


async def _ask_again(stage: Stage, journal: Journal, every: int) -> Journal:
    clients = Clients(stage.server.url, await stage.source(poison_every=every), "again")
    for asked in journal.with_status(422):
        await clients.ask(int(asked.request_id.rpartition("-")[2]), asked.due)
    clients.hang_up()
    return clients.journal
