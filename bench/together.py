"""Two busy models together against each alone: what sharing the machine costs them.

    python -m bench.together --weights FOLDER/yolov8n.pt

The network and the shipped `shapes-detect` are loaded in one server. In each turn each is asked alone in a closed loop,
then both at once, each by as many clients as before. Two that share the cores as if they took turns reach together
a/A + b/B = 1, where A and B are their rates alone and a and b together. The last line of the output is one JSON
document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop

from bench.adapter import add_options, chosen_options
from bench.caches import read_hits
from bench.engine import MODEL, engine, executed_by
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.processor import Stopwatch
from bench.record import record

OTHER = "shapes-detect"
_APART = 1_000_000


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All turns on one server."""
    with engine(args.weights, chosen_options(args), also=(OTHER,)) as server:
        before, pictures = read_hits(server.url), Pictures()
        asked = {model: engine_requests(server.url, model, pictures) for model in (MODEL, OTHER)}
        numbers = iter(range(0, 1 << 31, _APART))

        async def ask(models: Sequence[str]) -> Mapping[str, float]:
            loads = [Load(args.clients, None, args.seconds, args.warmup, first=next(numbers)) for _ in models]
            sent = (
                measure(server.url, asked[model], load) for model, load in zip(models, loads, strict=True)
            )
            tallies = await asyncio.gather(*sent)
            rates = [tally.figures(args.seconds)["per_second"] for tally in tallies]
            return dict(zip(models, rates, strict=True))

        turns = []
        for turn in range(args.turns):
            alone = {model: uvloop.run(ask([model]))[model] for model in asked}
            stopwatch = Stopwatch()
            together = uvloop.run(ask(list(asked)))
            share = sum(together[model] / alone[model] for model in asked)
            turns.append({"alone": alone, "together": together, "share": share, "cpu": stopwatch.read()})
            print(f"turn {turn + 1}: alone {alone}, together {together}: {share:.2f}", file=sys.stderr)
        shares = [turn["share"] for turn in turns]
        return {
            "executed_by": {model: executed_by(server, model) for model in asked},
            "distinct_pixels": True,
            "cache_hits": read_hits(server.url, before),
            "turns": turns,
            "share": statistics.median(shares),
            "spread": [min(shares), max(shares)],
        }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--clients", type=int, default=8, help="of each model")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the three parts of a turn")
    parser.add_argument("--warmup", type=float, default=1.5)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    names = ("clients", "seconds", "warmup", "turns")
    settings = {**{name: getattr(args, name) for name in names}, **chosen_options(args)}
    print(json.dumps(record("together", settings, run(args))))


if __name__ == "__main__":
    main()
