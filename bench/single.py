"""One request at a time on an idle server, against decoding and model alone in a process without one.

    python -m bench.single --weights FOLDER/yolov8n.pt

In turns, with the same runtime, threads of the bare model being all cores and one core; the stricter one counts. The
last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack
from typing import Any

import uvloop

from bench.adapter import add_options, chosen_options, require_alike
from bench.caches import read_hits
from bench.ceiling import Combination, Layout, started
from bench.ceiling_process import Network
from bench.engine import MODEL, engine, executed_by
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.record import record

_APART = 1_000_000


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Server and bare models stand ready all the time; only one of them works at a time."""
    network = Network(args.weights, 1, chosen_options(args))
    num_cores = len(os.sched_getaffinity(0))
    turns: list[dict[str, Any]] = []
    with ExitStack() as stack:
        bare = {
            threads: stack.enter_context(started(Layout(1, 1, threads), network))
            for threads in sorted({1, num_cores})
        }
        server = stack.enter_context(engine(args.weights, chosen_options(args)))
        for processes in bare.values():
            require_alike(executed_by(server), processes.runtime)
        requests, before = engine_requests(server.url, MODEL, Pictures()), read_hits(server.url)
        for turn in range(args.turns):
            load = Load(1, None, args.seconds, args.warmup, first=turn * _APART)
            tally = uvloop.run(measure(server.url, requests, load))
            alone = {
                threads: 1 / processes.measure(Combination(Layout(1, 1, threads), 1, False), args.seconds)
                for threads, processes in bare.items()
            }
            mean = statistics.fmean(tally.latencies)
            turns.append(
                {
                    **tally.figures(args.seconds),
                    "mean_seconds": mean,
                    "bare_mean_seconds": {str(threads): seconds for threads, seconds in alone.items()},
                    "ratio": mean / min(alone.values()),
                }
            )
            print(f"turn {turn + 1}: {turns[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
        ratios = [turn["ratio"] for turn in turns]
        return {
            "executed_by": executed_by(server),
            "bare_executed_by": bare[num_cores].runtime,
            "distinct_pixels": True,
            "cache_hits": read_hits(server.url, before),
            "turns": turns,
            "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
        }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    settings = {"seconds": args.seconds, "turns": args.turns, **chosen_options(args)}
    print(json.dumps(record("single", settings, run(args))))


if __name__ == "__main__":
    main()
