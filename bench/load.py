"""Load on a running server: closed loop (`--clients`) for its peak, open loop (`--rate`) for its latency.

    python -m bench.load --model yolov8n --clients 16 --seconds 20
    python -m bench.load --model yolov8n --rate 30 --seconds 60

In the open loop requests are due at the moments of a Poisson process and latency counts from the *due* moment, so
a server that stalls cannot hide it by slowing the generator down. Any answer but 200 makes the run an error.
The last line of the output is one JSON document.
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
from dataclasses import dataclass, field

import uvloop

from bench.client import Connection, build_request, connect
from bench.pictures import distinct_jpegs
from bench.record import percentiles, record


@dataclass
class Tally:
    """What was seen since the warm-up ended."""

    latencies: list[float] = field(default_factory=list)
    statuses: collections.Counter[str] = field(default_factory=collections.Counter)
    batch_sizes: collections.Counter[str] = field(default_factory=collections.Counter)
    stages: collections.defaultdict[str, list[float]] = field(
        default_factory=lambda: collections.defaultdict(list)
    )
    counts_from: float = 0.0
    counts_until: float = float("inf")
    num_completed: int = 0
    """Answers between the two moments: the rate must not include the end, when clients stop one by one."""

    async def send(self, connection: Connection, request: bytes, due: float) -> None:
        """Send, and count unless the warm-up still runs."""
        reply = await connection.send(request)
        now = time.perf_counter()
        self.num_completed += self.counts_from <= now < self.counts_until
        if due < self.counts_from:
            return
        self.statuses[str(reply.status)] += 1
        self.latencies.append(now - due)
        for part in reply.headers.get("server-timing", "").split(","):
            name, _, rest = part.strip().partition(";")
            if name == "batch":
                self.batch_sizes[rest.partition("=")[2].strip('"')] += 1
            elif rest.startswith("dur="):
                self.stages[name].append(float(rest[4:]))


async def closed_loop(url: str, requests: list[bytes], clients: int, until: float, tally: Tally) -> None:
    """`clients` connections, each asking again as soon as it has its answer."""
    order = itertools.cycle(requests)

    async def client() -> None:
        connection = await connect(url)
        while (now := time.perf_counter()) < until:
            await tally.send(connection, next(order), now)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))


async def open_loop(
    url: str, requests: list[bytes], rate: float, until: float, tally: Tally, seed: int = 0
) -> None:
    """Poisson arrivals at `rate` per second, each on an idle connection, a new one where none is."""
    generator = random.Random(seed)
    order = itertools.cycle(requests)
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    due = time.perf_counter()

    async def one(request: bytes, due: float) -> None:
        connection = idle.pop() if idle else await connect(url)
        await tally.send(connection, request, due)
        idle.append(connection)

    while due < until:
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(next(order), due))
        running.add(task)
        task.add_done_callback(running.discard)
        due += generator.expovariate(rate)
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()


async def run(args: argparse.Namespace) -> dict[str, object]:
    """One measurement. Raises ConnectionError when the server goes away."""
    options = {"prompt": args.prompt} if args.prompt else {}
    jpegs = distinct_jpegs(args.pictures)
    requests = [build_request(args.url, args.model, jpeg, args.form, options) for jpeg in jpegs]
    start = time.perf_counter()
    until = start + args.warmup + args.seconds
    tally = Tally(counts_from=start + args.warmup, counts_until=until)
    cpu_before = time.process_time()
    if args.rate:
        await open_loop(args.url, requests, args.rate, until, tally)
    else:
        await closed_loop(args.url, requests, args.clients, until, tally)
    figures = {
        "requests": len(tally.latencies),
        "per_second": tally.num_completed / args.seconds,
        "latency_seconds": percentiles(tally.latencies),
        "statuses": dict(tally.statuses),
        "batch_sizes": dict(sorted(tally.batch_sizes.items())),
        "mean_stage_milliseconds": {name: sum(values) / len(values) for name, values in tally.stages.items()},
        "generator_cpu_seconds": time.process_time() - cpu_before,
    }
    settings = {
        k: getattr(args, k) for k in ("model", "clients", "rate", "seconds", "warmup", "form", "pictures")
    }
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
    parser.add_argument("--pictures", type=int, default=256, help="how many distinct ones go round")
    result = uvloop.run(run(parser.parse_args()))
    print(json.dumps(result))
    return 0 if set(result["statuses"]) == {"200"} else 1  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
