"""Throughput by number of clients, and latency by load, of one server: what the plots are made of.

    python -m bench.sweep --weights FOLDER/yolov8n.pt

The loads are shares of the peak that the closed loops found. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import uvloop

from bench.adapter import add_options, chosen_options
from bench.caches import read_hits
from bench.engine import MODEL, engine, executed_by
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.record import record

_APART = 1_000_000


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Closed loops, then open ones."""
    by_clients, by_load = [], []
    with engine(args.weights, chosen_options(args)) as server:
        requests, before = engine_requests(server.url, MODEL, Pictures()), read_hits(server.url)

        def one(load: Load) -> dict[str, Any]:
            figures = uvloop.run(measure(server.url, requests, load)).figures(load.seconds)
            print(f"{load}: {figures['per_second']:.2f}/s", file=sys.stderr, flush=True)
            return figures

        for place, clients in enumerate(args.clients):
            load = Load(clients, None, args.seconds, args.warmup, first=place * _APART)
            by_clients.append({"clients": clients, **one(load)})
        peak = max(row["per_second"] for row in by_clients)
        for place, share in enumerate(args.shares, len(args.clients)):
            load = Load(1, share * peak, args.seconds, args.warmup, seed=place, first=place * _APART)
            by_load.append({"share": share, "rate": load.rate, **one(load)})
        told, hits = executed_by(server), read_hits(server.url, before)
    return {
        "executed_by": told,
        "distinct_pixels": True,
        "cache_hits": hits,
        "peak_per_second": peak,
        "by_clients": by_clients,
        "by_load": by_load,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.8, 0.9])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warmup", type=float, default=2.0)
    args = parser.parse_args()
    settings = {
        "clients": args.clients,
        "shares": args.shares,
        "seconds": args.seconds,
        **chosen_options(args),
    }
    print(json.dumps(record("sweep", settings, run(args))))


if __name__ == "__main__":
    main()
