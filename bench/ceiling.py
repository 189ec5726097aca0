"""The ceiling: what this machine gives without any server, from JPEG bytes to boxes.

    python -m bench.ceiling --weights FOLDER/yolov8n.pt
    python -m bench.ceiling --weights FOLDER/yolov8n.pt --runtime openvino --converted-dir FOLDER/converted

Every layout of processes x streams x threads over the cores, every batch size, each synchronously (decode, then run)
and with the next batch decoded meanwhile; the best two are measured again for longer and the better one counts. A
stream is a thread with a batch of its own. It runs the engine's own decoder and adapter, so a server built from them
can at most reach it. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.adapter import add_options, chosen_options
from bench.ceiling_process import Network, Part, Share
from bench.record import record


@dataclass(frozen=True)
class Layout:
    """`processes`, each with `streams`, each of these with a network of its own on `threads`."""

    processes: int
    streams: int
    threads: int


@dataclass(frozen=True)
class Combination:
    """A layout and how its batches are run; `decodes_ahead`: the next batch is decoded while one runs."""

    layout: Layout
    batch_size: int
    decodes_ahead: bool

    def row(self, per_second: float, seconds: float) -> dict[str, Any]:
        """As results have it."""
        how = {"batch_size": self.batch_size, "decodes_ahead": self.decodes_ahead}
        return {**asdict(self.layout), **how, "seconds": seconds, "per_second": per_second}


def layouts(num_cores: int, threads: Sequence[int] | None = None) -> list[Layout]:
    """One process with all cores, one process per part of them, and one process with a stream per part; parts of one
    core and (from four cores) of two, or of `threads`."""
    found = []
    for width in sorted(set(threads or (1, 2, num_cores)) & set(range(1, num_cores + 1))):
        parts = num_cores // width
        found.append(Layout(parts, 1, width))
        if parts > 1:
            found.append(Layout(1, parts, width))
    return found


class Processes:
    """The processes of one layout, with their networks loaded; idle except while they are measured."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.runtime = parts[0].runtime
        self._turns = itertools.count()

    def measure(self, combination: Combination, seconds: float) -> float:
        """Images per second of all processes together. Raises RuntimeError when one of them failed."""
        turn = next(self._turns)
        share = Share(combination.batch_size, combination.decodes_ahead, seconds, turn)
        for part in self._parts:
            part.begin(share)
        return sum(part.result() for part in self._parts)


@contextmanager
def started(layout: Layout, network: Network) -> Iterator[Processes]:
    """Start and load the processes of `layout`; they end with the block."""
    cores = sorted(os.sched_getaffinity(0))
    width = layout.streams * layout.threads
    with ExitStack() as stack:
        parts = [
            stack.enter_context(
                Part(cores[i * width : (i + 1) * width], layout.streams, layout.threads, network, i)
            )
            for i in range(layout.processes)
        ]
        for part in parts:
            part.wait_until_loaded()
        yield Processes(parts)


def search(
    network: Network, chosen: Sequence[Layout], batch_sizes: Sequence[int], seconds: float
) -> tuple[list[tuple[Combination, float]], dict[str, str]]:
    """Every combination with its images per second, best first, and what executed the network."""
    found: list[tuple[Combination, float]] = []
    runtime: dict[str, str] = {}
    for layout in chosen:
        with started(layout, network) as processes:
            runtime = processes.runtime
            for batch_size, ahead in itertools.product(batch_sizes, (False, True)):
                combination = Combination(layout, batch_size, ahead)
                found.append((combination, processes.measure(combination, seconds)))
                print(json.dumps(combination.row(found[-1][1], seconds)), file=sys.stderr, flush=True)
    return sorted(found, key=lambda pair: -pair[1]), runtime


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Search, and measure the best two again."""
    network = Network(args.weights, max(args.batch_sizes), chosen_options(args))
    chosen = layouts(len(os.sched_getaffinity(0)), args.threads)
    found, runtime = search(network, chosen, args.batch_sizes, args.seconds)
    finals = []
    for combination, _ in found[:2]:
        with started(combination.layout, network) as processes:
            per_second = processes.measure(combination, args.final_seconds)
        finals.append(combination.row(per_second, args.final_seconds))
        print(json.dumps(finals[-1]), file=sys.stderr, flush=True)
    settings = {
        "weights": Path(args.weights).name,
        **chosen_options(args),
        "batch_sizes": args.batch_sizes,
    }
    figures = {
        **runtime,
        "distinct_pixels": True,
        "rows": [combination.row(rate, args.seconds) for combination, rate in found],
        "finals": finals,
        "best": max(finals, key=lambda row: row["per_second"]),
    }
    return record("ceiling", settings, figures)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, nargs="+", help="only these numbers of threads per stream")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each combination")
    parser.add_argument("--final-seconds", type=float, default=10.0, help="of the best two again")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
