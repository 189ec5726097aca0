"""Load on a running server: closed loop (`--clients`) for its peak, open loop (`--rate`) for its latency.

    python -m bench.load --model yolov8n --clients 16 --seconds 20
    python -m bench.load --model yolov8n --rate 30 --seconds 60

In the open loop requests are due at the moments of a Poisson process and latency counts from the *due* moment, so
a server that stalls cannot hide it by slowing the generator down. Every request has a picture of its own; any answer
but 200 makes the run an error. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.caches import read_hits
from bench.client import Connection, build_request, connect
from bench.pictures import Pictures
from bench.processor import Stopwatch
from bench.record import percentiles, record

Requests = Callable[[int], bytes]
"""The bytes of the request of a number; no two are alike."""


@dataclass(frozen=True)
class Load:
    """`clients` in a closed loop, or `rate` requests per second in an open one; seconds. `seed` of the arrivals,
    `first` the number of the first request."""

    clients: int = 16
    rate: float | None = None
    seconds: float = 20.0
    warmup: float = 3.0
    seed: int = 0
    first: int = 0


class FailedRunError(Exception):
    """A request was not answered 200: no measurement."""


@dataclass
class Tally:
    """What was seen since the warm-up ended."""

    latencies: list[float] = field(default_factory=list)
    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    batches: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Of each answer the size of its batch and its stages in seconds, as `Server-Timing` says."""
    answered_at: list[float] = field(default_factory=list)
    """When each of `batches` was here."""
    counts_from: float = 0.0
    counts_until: float = float("inf")
    num_completed: int = 0
    """Answers between the two moments: the rate must not include the end, when clients stop one by one."""
    num_bytes: int = 0

    async def send(self, connection: Connection, request: bytes, due: float) -> None:
        """Send, and count unless the warm-up still runs."""
        reply = await connection.send(request)
        now = time.perf_counter()
        self.num_completed += self.counts_from <= now < self.counts_until
        if due < self.counts_from:
            return
        self.statuses[str(reply.status)] += 1
        self.latencies.append(now - due)
        self.num_bytes += len(request)
        if timing := reply.headers.get("server-timing"):
            self.batches.append(read_timing(timing))
            self.answered_at.append(now)

    @property
    def stages(self) -> dict[str, list[float]]:
        """Seconds by stage."""
        stages: dict[str, list[float]] = collections.defaultdict(list)
        for _, parts in self.batches:
            for name, value in parts.items():
                stages[name].append(value)
        return stages

    def figures(self, seconds: float) -> dict[str, Any]:
        """Requests, rate, percentiles, statuses, and where the server says so batch sizes and stages."""
        sizes = collections.Counter(str(size) for size, _ in self.batches)
        return {
            "requests": len(self.latencies),
            "per_second": self.num_completed / seconds,
            "latency_seconds": percentiles(self.latencies),
            "statuses": dict(self.statuses),
            "mean_request_bytes": self.num_bytes / len(self.latencies),
            "batch_sizes": dict(sorted(sizes.items())),
            "mean_stage_milliseconds": {
                name: 1000 * sum(values) / len(values) for name, values in self.stages.items()
            },
        }


def read_timing(header: str) -> tuple[int, dict[str, float]]:
    """The batch size (1 where it is not named) and the stages in seconds of a `Server-Timing` header."""
    size, stages = 1, {}
    for part in header.split(","):
        name, _, rest = part.strip().partition(";")
        if name == "batch":
            size = int(rest.partition("=")[2].strip('"'))
        elif rest.startswith("dur="):
            stages[name] = float(rest[4:]) / 1000
    return size, stages


async def measure(url: str, requests: Requests, load: Load) -> Tally:
    """Put `load` on the server at `url`. Raises ConnectionError when it goes away, FailedRunError for other
    answers than 200."""
    start = time.perf_counter()
    until = start + load.warmup + load.seconds
    tally = Tally(counts_from=start + load.warmup, counts_until=until)
    numbered = map(requests, itertools.count(load.first))
    if load.rate:
        await open_loop(url, numbered, arrivals(load.rate, start, load.seed), until, tally)
    else:
        await closed_loop(url, numbered, load.clients, until, tally)
    if not tally.statuses or not tally.num_completed:
        raise FailedRunError(f"nothing was asked after {load.warmup} s and answered within {load.seconds} s")
    if set(tally.statuses) != {"200"}:
        raise FailedRunError(f"answers were {dict(tally.statuses)}, all must be 200")
    return tally


async def closed_loop(url: str, requests: Iterator[bytes], clients: int, until: float, tally: Tally) -> None:
    """`clients` connections, each asking again as soon as it has its answer."""

    async def client() -> None:
        connection = await connect(url)
        while (now := time.perf_counter()) < until:
            await tally.send(connection, next(requests), now)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))


def arrivals(rate: float, start: float, seed: int) -> Iterator[float]:
    """Moments of a Poisson process of `rate` per second from `start` on, without end."""
    generator = random.Random(seed)
    due = start
    while True:
        yield due
        due += generator.expovariate(rate)


async def open_loop(
    url: str, requests: Iterator[bytes], moments: Iterator[float], until: float, tally: Tally
) -> None:
    """A request at each of `moments` before `until`, on an idle connection, a new one where none is."""
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def one(request: bytes, due: float) -> None:
        connection = idle.pop() if idle else await connect(url)
        await tally.send(connection, request, due)
        idle.append(connection)

    for due in itertools.takewhile(lambda moment: moment < until, moments):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(next(requests), due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()


def engine_requests(
    url: str, model: str, pictures: Pictures, form: str = "raw", prompt: str | None = None
) -> Requests:
    """Requests to the engine. `form` is ``raw`` or ``json``."""
    options = {"prompt": prompt} if prompt else {}
    return lambda number: build_request(url, model, pictures.jpeg(number), form, options)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """One measurement. Raises ConnectionError when the server goes away, FailedRunError."""
    requests = engine_requests(args.url, args.model, Pictures(), args.form, args.prompt)
    load = Load(args.clients, args.rate, args.seconds, args.warmup, first=args.first)
    hits, stopwatch = read_hits(args.url), Stopwatch()
    tally = await measure(args.url, requests, load)
    figures = {
        **tally.figures(load.seconds),
        "cpu": stopwatch.read(),
        "distinct_pixels": True,
        "cache_hits": read_hits(args.url, hits),
    }
    settings = {k: getattr(args, k) for k in ("model", "clients", "rate", "seconds", "warmup", "form")}
    return record("load", settings, figures)


def main() -> int:
    """Entry point; exit code 1 when any request was not answered 200."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--model", default="shapes-detect")
    parser.add_argument("--prompt", help="question for a VQA model")
    parser.add_argument("--clients", type=int, default=16, help="closed loop: how many")
    parser.add_argument("--rate", type=float, help="open loop: requests per second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--warmup", type=float, default=3.0, help="seconds not counted")
    parser.add_argument("--form", choices=["raw", "json"], default="raw")
    parser.add_argument("--first", type=int, default=0, help="number of the first picture")
    try:
        print(json.dumps(uvloop.run(run(parser.parse_args()))))
    except FailedRunError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
