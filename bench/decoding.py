"""What decoding in processes of their own costs: two servers stand ready, one for each way, and take turns.

    python -m bench.decoding --weights FOLDER/yolov8n.pt --turns 5

Around a model that does nothing, the demo detector and, with `--weights`, a real one. Only one server works at a time;
which one begins changes with every turn. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import uvloop

from bench import noop
from bench.chaos.census import descendants
from bench.engine import MODEL, engine, noop_engine
from bench.load import Load, engine_requests, measure
from bench.memory import demo_engine
from bench.pictures import Pictures
from bench.processor import process_seconds
from bench.record import record
from bench.serving import RunningServer
from server.footprint import footprint

MODES = ("thread", "process")
Start = Callable[[Mapping[str, str]], AbstractContextManager[RunningServer]]


def servers(weights: str | None) -> dict[str, Start]:
    """What starts a server with some settings, by the name of its model."""
    found: dict[str, Start] = {
        noop.MODEL: noop_engine,
        "shapes-detect": lambda options: demo_engine({"load_at_start": "shapes-detect", **options}),
    }
    if weights is not None:
        found[MODEL] = lambda options: engine(weights, options)
    return found


def compare(args: argparse.Namespace, model: str, start: Start) -> dict[str, Any]:
    """The turns of one model."""
    with ExitStack() as stack:
        ready = {mode: stack.enter_context(start({"decode": mode})) for mode in MODES}
        turns = []
        for turn in range(args.turns):
            modes = MODES if turn % 2 else MODES[::-1]
            figures = {mode: _measure(args, ready[mode], model, turn) for mode in modes}
            turns.append(figures)
            rates = {mode: round(figures[mode]["per_second"], 1) for mode in MODES}
            print(f"{model} turn {turn + 1}: {rates}", file=sys.stderr, flush=True)
        memory = {mode: fair_bytes(ready[mode]) for mode in MODES}
    return {"turns": turns, "process_over_thread": ratios(turns), "memory_fair_bytes": memory}


def fair_bytes(server: RunningServer) -> dict[str, int]:
    """Of the front, and of everything below it (workers, forkservers, decoders); shared pages divided (PSS)."""
    below = descendants(server.process.pid)
    return {
        "front": footprint(server.process.pid).fair,
        "below": sum(footprint(pid).fair for pid in below),
        "processes": 1 + len(below),
    }


def _measure(args: argparse.Namespace, server: RunningServer, model: str, turn: int) -> dict[str, Any]:
    load = Load(args.clients, None, args.seconds, args.warmup, first=turn * 1_000_000)
    family = [server.process.pid, *descendants(server.process.pid)]
    before = sum(map(process_seconds, family))
    tally = uvloop.run(measure(server.url, engine_requests(server.url, model, Pictures(), args.form), load))
    used = sum(map(process_seconds, family)) - before
    figures = tally.figures(args.seconds)
    counted = used * args.seconds / (args.seconds + args.warmup)
    return {**figures, "cpu_milliseconds": 1000 * counted / figures["requests"]}


def ratios(turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each turn the process's figure over the thread's: median and spread."""
    found = {}
    for name, read in _FIGURES.items():
        each = [read(turn["process"]) / read(turn["thread"]) for turn in turns]
        found[name] = {"median": statistics.median(each), "spread": [min(each), max(each)]}
    return found


_FIGURES: Mapping[str, Callable[[Mapping[str, Any]], float]] = {
    "per_second": lambda figures: figures["per_second"],
    "p50": lambda figures: figures["latency_seconds"]["p50"],
    "p99": lambda figures: figures["latency_seconds"]["p99"],
    "cpu_milliseconds": lambda figures: figures["cpu_milliseconds"],
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="also with this model")
    parser.add_argument("--only", nargs="+", help="of the models noop, shapes-detect and bench")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--form", choices=["raw", "json"], default="raw")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each side in each turn")
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    wanted = servers(args.weights)
    wanted = {name: start for name, start in wanted.items() if not args.only or name in args.only}
    found = {name: compare(args, name, start) for name, start in wanted.items()}
    names = ("weights", "clients", "form", "seconds", "warmup", "turns")
    for name, figures in found.items():
        print(f"{name}: {json.dumps(figures['process_over_thread'])}", file=sys.stderr)
    print(json.dumps(record("decoding", {name: getattr(args, name) for name in names}, {"models": found})))


if __name__ == "__main__":
    main()
