"""The engine and its peers on the same cores, each started, warmed, loaded and ended in turn.

Before the turns each peer is tried with each of its candidate settings; the fastest is kept. In a turn only one server
runs. All are asked by the same generator, with the same number of connections, never the same picture twice.
"""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.caches import read_hits
from bench.engine import MODEL, engine, executed_by, noop_engine
from bench.load import Load, Requests, engine_requests, measure
from bench.pictures import Pictures
from bench.processor import Stopwatch

_APART = 1_000_000
"""Between the first pictures of two measurements."""


@dataclass(frozen=True)
class Target:
    """A server that runs: where, what it is sent, and what executes its network."""

    url: str
    requests: Requests
    runtime: Mapping[str, Any]


@dataclass
class Contender:
    """`start` runs it for the time of a block; `settings` are what it runs with."""

    name: str
    start: Callable[[], AbstractContextManager[Target]]
    settings: Mapping[str, Any]
    turns: list[dict[str, Any]] = field(default_factory=list)
    runtime: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Its turns, their median and spread."""
        rates = [turn["per_second"] for turn in self.turns]
        return {
            "name": self.name,
            "settings": dict(self.settings),
            "executed_by": dict(self.runtime),
            "per_second": statistics.median(rates),
            "spread": [min(rates), max(rates)],
            "turns": self.turns,
        }


class Turns:
    """Measures contenders; counts measurements, so that no picture is shown twice."""

    def __init__(self, clients: int, seconds: float, warmup: float) -> None:
        self._clients, self._seconds, self._warmup = clients, seconds, warmup
        self._num_done = 0

    def measure(self, target: Target, seconds: float | None = None) -> dict[str, Any]:
        """One measurement of what runs."""
        self._num_done += 1
        seconds = seconds or self._seconds
        load = Load(self._clients, None, seconds, self._warmup, first=self._num_done * _APART)
        gc.collect()
        stopwatch = Stopwatch()
        tally = uvloop.run(measure(target.url, target.requests, load))
        return {**tally.figures(seconds), "cpu": stopwatch.read()}

    def run(self, contenders: Sequence[Contender], num_turns: int) -> list[dict[str, Any]]:
        """Every contender once per turn, in an order that rotates, for what comes first meets a cooler machine."""
        for turn in range(num_turns):
            shift = turn % len(contenders)
            for contender in [*contenders[shift:], *contenders[:shift]]:
                with contender.start() as target:
                    contender.runtime = target.runtime
                    contender.turns.append(self.measure(target))
                rate = contender.turns[-1]["per_second"]
                print(f"turn {turn + 1} {contender.name}: {rate:.2f}/s", file=sys.stderr, flush=True)
        return [contender.row() for contender in contenders]


@contextmanager
def running_engine(
    weights: str, options: Mapping[str, str], pictures: Pictures, form: str = "raw"
) -> Iterator[Target]:
    """The engine with `options`; Raises RuntimeError when a cache answered anything."""
    with engine(weights, options) as server:
        before = read_hits(server.url)
        yield Target(server.url, engine_requests(server.url, MODEL, pictures, form), executed_by(server))
        if any(hits := read_hits(server.url, before)):
            raise RuntimeError(f"answers came from caches: {hits}")


@contextmanager
def running_noop_engine(requests: Callable[[str], Requests]) -> Iterator[Target]:
    """The engine without a network; `requests` makes them for its address."""
    with noop_engine() as server:
        yield Target(server.url, requests(server.url), {"runtime": "none"})
