"""What good clients notice of a thousand that hold connections and never end a request.

    python -m bench.slowloris

Silent ones, ones that drip a head or a body, and ones that do not read their replies, all by a process of their own
(`bench.dripping`) that puts a new one in the place of each that is thrown out. Good clients ask a model that does
nothing (a real one would hide the front) at a constant rate, with and without them in turns; what counts is the median
of the ratios of the two p99 of a pair. How long the bad ones last, what they cost in memory and that no descriptor is
left are measured too. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from bench.engine import noop_engine
from bench.load import FailedRunError, Load, engine_requests, measure
from bench.noop import MODEL
from bench.pictures import Pictures
from bench.record import percentiles, record
from bench.serving import RunningServer

TIMEOUTS = {"header_timeout": 4.0, "receive_timeout": 6.0, "send_timeout": 4.0}
"""Shorter than the defaults, so that a turn sees every attacker thrown out."""
DEADLINES = {"silent": 4.0, "head": 4.0, "body": 6.0}
_APART = 100_000
_PATIENCE = 60.0


@dataclass
class Attackers:
    """A crowd while it attacks; `lasted` is there afterwards."""

    resident_bytes: int = 0
    num_descriptors: int = 0
    lasted: dict[str, list[float]] = field(default_factory=dict)


def resident_bytes(server: RunningServer) -> int:
    """Memory of the front."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def num_descriptors(server: RunningServer) -> int:
    """Open files of the front."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def attacked(server: RunningServer, num_connections: int) -> Iterator[Attackers]:
    """Inside, that many bad clients are connected. Raises FailedRunError if not."""
    command = [
        sys.executable,
        "-m",
        "bench.dripping",
        "--url",
        server.url,
        "--connections",
        str(num_connections),
    ]
    attackers = Attackers()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise FailedRunError("the attackers could not connect")
            yield attackers
            attackers.resident_bytes = resident_bytes(server)
            attackers.num_descriptors = num_descriptors(server)
            output, _ = process.communicate(timeout=_PATIENCE)
        finally:
            process.kill()
    attackers.lasted = json.loads(output)


def settled_descriptors(server: RunningServer, wanted: int) -> int:
    """How many there are once they are no more than `wanted`, or after a while."""
    deadline = time.monotonic() + 10
    while (number := num_descriptors(server)) > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return number


def one_pair(
    server: RunningServer, pictures: Pictures, args: argparse.Namespace, turn: int
) -> dict[str, Any]:
    """The good clients alone, then beside the others. Raises FailedRunError, ConnectionError."""

    def latencies(side: int) -> dict[str, float]:
        load = Load(
            rate=args.rate,
            seconds=args.seconds,
            warmup=args.warmup,
            seed=turn,
            first=(2 * turn + side) * _APART,
        )
        requests = engine_requests(server.url, MODEL, pictures)
        return percentiles(uvloop.run(measure(server.url, requests, load)).latencies)

    before, descriptors = resident_bytes(server), num_descriptors(server)
    alone = latencies(0)
    with attacked(server, args.connections) as attackers:
        beside = latencies(1)
    late = {
        kind: max(seconds) - DEADLINES[kind]
        for kind, seconds in attackers.lasted.items()
        if kind in DEADLINES
    }
    return {
        "alone_seconds": alone,
        "beside_seconds": beside,
        "p99_ratio": beside["p99"] / alone["p99"],
        "bytes_per_connection": (attackers.resident_bytes - before) / args.connections,
        "ended": {kind: len(seconds) for kind, seconds in attackers.lasted.items()},
        "latest_end_after_deadline_seconds": late,
        "longest_reader_seconds": max(attackers.lasted.get("reader", [0.0])),
        "descriptors": {
            "before": descriptors,
            "beside": attackers.num_descriptors,
            "after": settled_descriptors(server, descriptors),
        },
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All pairs. Raises FailedRunError, ConnectionError."""
    pictures = Pictures()
    with noop_engine({name: str(value) for name, value in TIMEOUTS.items()}) as server:
        pairs = [one_pair(server, pictures, args, turn) for turn in range(args.pairs)]
    figures = {
        "p99_ratio": statistics.median(pair["p99_ratio"] for pair in pairs),
        "bytes_per_connection": max(pair["bytes_per_connection"] for pair in pairs),
        "latest_end_after_deadline_seconds": max(
            (late for pair in pairs for late in pair["latest_end_after_deadline_seconds"].values()),
            default=None,
        ),
        "pairs": pairs,
    }
    settings = {name: getattr(args, name) for name in ("connections", "rate", "seconds", "warmup", "pairs")}
    return record("slowloris", {**settings, **TIMEOUTS}, figures)


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--connections", type=int, default=1000, help="bad clients")
    options.add_argument("--rate", type=float, default=40.0, help="good requests per second")
    options.add_argument("--seconds", type=float, default=10.0, help="of one side of a pair")
    options.add_argument("--warmup", type=float, default=1.0, help="seconds not counted")
    options.add_argument("--pairs", type=int, default=5)
    return options


def main() -> int:
    """Entry point; exit code 1 when a good request was not answered 200."""
    try:
        print(json.dumps(run(parser().parse_args())))
    except FailedRunError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
