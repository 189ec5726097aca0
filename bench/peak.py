"""The engine's peak over the ceiling, in turns: raw JPEG bodies, base64 in JSON, and no server at all.

    python -m bench.peak --weights FOLDER/yolov8n.pt

The ceiling's best layout is searched for first; then its processes and the server both stand ready, and only one of
them works at a time. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import uvloop

from bench.adapter import add_options, chosen_options, require_alike
from bench.caches import read_hits
from bench.ceiling import Combination, Processes, layouts, search, started
from bench.ceiling_process import Network
from bench.engine import MODEL, engine, executed_by
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.processor import Stopwatch
from bench.record import record

FORMS = ("raw", "json")
_APART = 1_000_000
NUM_BEST = 2
"""Combinations that compete with the server in every turn; the better one of them counts in each."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Search, then the turns."""
    options = chosen_options(args)
    network = Network(args.weights, max(args.batch_sizes), options)
    found, runtime = search(
        network, layouts(len(os.sched_getaffinity(0))), args.batch_sizes, args.search_seconds
    )
    with ExitStack() as stack:
        best = [(each, stack.enter_context(started(each.layout, network))) for each, _ in found[:NUM_BEST]]
        server = stack.enter_context(engine(args.weights, options))
        require_alike(executed_by(server), runtime)
        before = read_hits(server.url)
        turns = [_turn(args, server.url, best, turn) for turn in range(args.turns)]
        told, hits = executed_by(server), read_hits(server.url, before)
    return {
        "executed_by": told,
        "ceiling_executed_by": runtime,
        "distinct_pixels": True,
        "cache_hits": hits,
        "search": [combination.row(rate, args.search_seconds) for combination, rate in found],
        "turns": turns,
        "ratios": {form: ratios(turns, form) for form in FORMS},
    }


def ratios(turns: Sequence[Mapping[str, Any]], form: str) -> dict[str, Any]:
    """The server's rate over the ceiling's of the same turn: median and spread."""
    each = [turn[form]["per_second"] / turn["ceiling"]["per_second"] for turn in turns]
    return {"median": statistics.median(each), "spread": [min(each), max(each)]}


def _turn(
    args: argparse.Namespace, url: str, best: Sequence[tuple[Combination, Processes]], turn: int
) -> dict[str, Any]:
    rows = [each.row(ready.measure(each, args.seconds), args.seconds) for each, ready in best]
    figures: dict[str, Any] = {"ceiling": max(rows, key=lambda row: row["per_second"]), "ceilings": rows}
    pictures = Pictures()
    for place, form in enumerate(FORMS):
        load = Load(args.clients, None, args.seconds, args.warmup, first=(2 * turn + place) * _APART)
        stopwatch = Stopwatch()
        tally = uvloop.run(measure(url, engine_requests(url, MODEL, pictures, form), load))
        figures[form] = {**tally.figures(args.seconds), "cpu": stopwatch.read()}
    rates = {name: round(figures[name]["per_second"], 2) for name in ("ceiling", *FORMS)}
    print(f"turn {turn + 1}: {rates}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each side in each turn")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--search-seconds", type=float, default=4.0, help="of each combination of the ceiling"
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    names = ("clients", "seconds", "turns", "search_seconds", "batch_sizes")
    settings = {**{name: getattr(args, name) for name in names}, **chosen_options(args)}
    print(json.dumps(record("peak", settings, run(args))))


if __name__ == "__main__":
    main()
