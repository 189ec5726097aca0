"""Latency at a share of the peak against a simulated queue: what the server adds to waiting and computing.

    python -m bench.tail --weights FOLDER/yolov8n.pt

A closed loop finds the peak, then requests come as a Poisson process at 70 % of it. The same arrivals go through a
simulated queue with the same number of replicas, the same batching rule (no batch larger than the largest that the
closed loop saw, for that is as many as the server takes) and the measured times of decoding and of batches; those of
batches that began alone in the server, which spreads them over all cores, are drawn from on their own. The last line
of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from bench.adapter import add_options, chosen_options
from bench.caches import read_hits
from bench.engine import MODEL, engine, executed_by
from bench.load import Load, Requests, Tally, arrivals, engine_requests, measure
from bench.pictures import Pictures
from bench.processor import Stopwatch
from bench.queue_simulation import MeasuredServiceTimes, simulate_with_delays
from bench.record import percentiles, record

_APART = 1_000_000


def service_times(tally: Tally) -> tuple[MeasuredServiceTimes, MeasuredServiceTimes | None]:
    """Computing and post-processing of the batches that were answered: of those that began beside others, and of
    those that began alone. One stands for both, and the other is None, where either never happened."""
    apart: dict[bool, dict[int, list[float]]] = {
        alone: collections.defaultdict(list) for alone in (False, True)
    }
    for (size, stages), alone in zip(tally.batches, began_alone(tally), strict=True):
        apart[alone][size].append(stages["infer"] + stages["post"])
    if apart[False] and apart[True]:
        return MeasuredServiceTimes(apart[False]), MeasuredServiceTimes(apart[True])
    return MeasuredServiceTimes(apart[False] or apart[True]), None


def began_alone(tally: Tally) -> list[bool]:
    """Of each answer whether nothing of another batch was being computed when its own batch began, as far as can be
    told from when answers came."""
    spans = []
    for (_, stages), answered_at in zip(tally.batches, tally.answered_at, strict=True):
        spans.append((answered_at - stages["infer"] - stages["post"], answered_at))
    in_order = sorted(range(len(spans)), key=lambda each: spans[each])
    alone, busy_until = [False] * len(spans), float("-inf")
    for each in in_order:
        began, ended = spans[each]
        alone[each] = began >= busy_until
        busy_until = max(busy_until, ended)
    return alone


def simulated(tally: Tally, load: Load, num_servers: int, max_batch_size: int) -> dict[str, float]:
    """Percentiles in seconds of the same arrivals in the simulated queue."""
    assert load.rate is not None
    until = load.warmup + load.seconds
    moments = list(itertools.takewhile(lambda moment: moment < until, arrivals(load.rate, 0.0, load.seed)))
    delays = [stages["decode"] for _, stages in tally.batches]
    latencies = simulate_with_delays(moments, delays, num_servers, max_batch_size, *service_times(tally))
    return percentiles(
        [latency for moment, latency in zip(moments, latencies, strict=True) if moment >= load.warmup]
    )


def one_turn(
    url: str, requests: Requests, args: argparse.Namespace, turn: int, servers: int
) -> dict[str, Any]:
    """Peak, then the share of it. Raises FailedRunError."""
    first = turn * 10 * _APART
    closed = Load(args.clients, None, args.peak_seconds, args.warmup, first=first)
    at_peak = uvloop.run(measure(url, requests, closed))
    peak = at_peak.figures(args.peak_seconds)["per_second"]
    largest = args.max_batch_size or max(size for size, _ in at_peak.batches)
    rate = args.share * peak
    opened = Load(1, rate, args.seconds, args.warmup, seed=turn, first=first + _APART)
    stopwatch = Stopwatch()
    tally = uvloop.run(measure(url, requests, opened))
    cpu = stopwatch.read()
    queue = simulated(tally, opened, servers, largest)
    figures = tally.figures(args.seconds)
    real, ideal = tail(figures["latency_seconds"]), tail(queue)
    told = f"{rate:.1f}/s, p99 / p50 {real:.2f}, simulated {ideal:.2f}, batches up to {largest}"
    print(f"turn {turn + 1}: peak {peak:.1f}/s; {told}", file=sys.stderr, flush=True)
    return {
        "peak_per_second": peak,
        "rate": rate,
        "max_batch_size": largest,
        "share_alone": statistics.fmean(began_alone(tally)),
        **figures,
        "simulated_seconds": queue,
        "tail": real,
        "simulated_tail": ideal,
        "ratio": real / ideal,
        "cpu": cpu,
    }


def tail(latencies: dict[str, float]) -> float:
    """p99 over p50."""
    return latencies["p99"] / latencies["p50"]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All turns on one server."""
    with engine(args.weights, chosen_options(args)) as server:
        told, before = executed_by(server), read_hits(server.url)
        servers = args.servers or told["replicas"]
        requests = engine_requests(server.url, MODEL, Pictures())
        turns = [one_turn(server.url, requests, args, turn, servers) for turn in range(args.turns)]
        hits = read_hits(server.url, before)
    return {
        "executed_by": told,
        "distinct_pixels": True,
        "cache_hits": hits,
        "num_servers": servers,
        "turns": turns,
        **summary([turn["ratio"] for turn in turns]),
    }


def summary(ratios: Sequence[float]) -> dict[str, Any]:
    """Median and spread."""
    return {"ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--peak-seconds", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warmup", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--servers", type=int, help="batches that run at once; the number of replicas")
    parser.add_argument(
        "--max-batch-size", type=int, help="of the simulation; the largest that the closed loop saw"
    )
    args = parser.parse_args()
    names = ("share", "clients", "peak_seconds", "seconds", "warmup", "turns")
    settings = {**{name: getattr(args, name) for name in names}, **chosen_options(args)}
    print(json.dumps(record("tail", settings, run(args))))


if __name__ == "__main__":
    main()
