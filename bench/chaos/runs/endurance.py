"""Many requests of every kind, good, bad and broken off: does anything grow?"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from typing import Any

import uvloop

from bench.chaos import census, timeline
from bench.chaos.abort import POINTS, abort
from bench.chaos.asking import Clients
from bench.chaos.checks import Check, nobody_harmed, none_of, nothing_leaked
from bench.chaos.journal import RIGHT, Journal
from bench.chaos.mixture import Mixture
from bench.chaos.slope import Slope, slope
from bench.chaos.stage import SIDE, Stage, fake_stage

_ABORTED = 0.1
_WARM_UP = 0.5
"""Share of the requests before memory is looked at: the allocator needs some 20,000 to find its size."""
_NUM_SAMPLES = 400


def endurance(num_requests: int, num_clients: int = 32, *, leaks: bool = False) -> dict[str, Any]:
    """`num_requests`: 60 % good, 30 % bad, 10 % aborted. `leaks`: against a server that keeps every request."""
    with fake_stage({"fake": {"seconds": 0.002}}, leaks=leaks) as stage:
        uvloop.run(_Crowd(stage, min(500, num_requests // 4)).ask(num_clients))  # what is made once, is made
        before = census.take(stage.server, [stage.model])
        crowd = _Crowd(stage, num_requests)
        started = time.monotonic()
        uvloop.run(crowd.ask(num_clients))
        seconds = time.monotonic() - started
        after = census.settled(stage.server, [stage.model], before)
        answers = timeline.read(stage.server.log).answers
    growth = crowd.growth()
    journal = crowd.clients.journal
    return {
        "checks": [
            *nobody_harmed(journal, answers),
            none_of("answered otherwise than due", sum(asked.outcome != RIGHT for asked in journal.asked)),
            nothing_leaked(before, after),
            Check(
                "resident bytes per request, 95 % interval",
                [round(growth.low, 1), round(growth.high, 1)],
                "holds 0",
                not growth.is_growth,
            ),
        ],
        "requests": len(journal.asked) + sum(crowd.aborted.values()),
        "per_second": num_requests / seconds,
        "kinds": dict(sorted(crowd.mixture.kinds.items())),
        "aborted": dict(crowd.aborted),
        "growth_bytes_per_request": growth.value,
        "resident_bytes": {"after_requests": crowd.counts[::20], "bytes": crowd.sizes[::20]},
    }


class _Crowd:
    """Clients that ask and clients that leave, and a look at the server's memory now and then."""

    def __init__(self, stage: Stage, num_requests: int) -> None:
        self._stage, self._num_requests = stage, num_requests
        self.mixture = Mixture(stage.server.url, stage.model, SIDE)
        self.clients = Clients(stage.server.url, self.mixture, f"mixed{num_requests}")
        self.aborted: Counter[str] = Counter()
        self.counts: list[int] = []
        self.sizes: list[int] = []
        self._numbers = itertools.count()
        self._num_done = 0

    async def ask(self, num_clients: int) -> Journal:
        """All of them."""
        await asyncio.gather(*(self._client() for _ in range(num_clients)))
        self.clients.hang_up()
        return self.clients.journal

    async def _client(self) -> None:
        every = max(self._num_requests // _NUM_SAMPLES, 1)
        while (number := next(self._numbers)) < self._num_requests:
            choice = random.Random(number)
            if choice.random() < _ABORTED:
                point = choice.choice(POINTS)
                question = self.mixture.good(number, f"aborted-{number}")
                await abort(self._stage.server.url, question.request, point)
                self.aborted[point] += 1
            else:
                await self.clients.ask(number, time.monotonic())
            self._num_done += 1
            if self._num_done % every == 0:
                self.counts.append(self._num_done)
                self.sizes.append(census.resident_bytes(self._stage.server.process.pid))

    def growth(self) -> Slope:
        """Bytes per request after the warm-up."""
        first = int(len(self.counts) * _WARM_UP)
        return slope(self.counts[first:], self.sizes[first:])
