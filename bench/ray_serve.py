"""What Ray Serve costs in front of the engine: the same engine alone and behind each of Ray's two proxies, in turns.

    python -m bench.ray_serve [--weights FOLDER/yolov8n.pt]

Needs the extra `ray`. Without weights: the demo model `shapes-detect`. All three stand ready all the time and have the
same cores; only one of them works at a time. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from bench.engine import ENVIRONMENT, MODEL, executed_by, stop_cleanly
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.record import record
from bench.serving import RunningServer, start_process

DEMO = "shapes-detect"
PROXIES = {"haproxy": "1", "python": "0"}
"""Of Ray, and what RAY_SERVE_ENABLE_HA_PROXY is for them."""
RAY = {
    **ENVIRONMENT,
    "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": uuid.uuid4().hex,
    # Replicas and proxies run at nice 15 otherwise, and the engine alone and the clients do not.
    "RAY_worker_niceness": "0",
}
_APART = 1_000_000


def settings_of(model: str, weights: str | None, folder: Path) -> dict[str, str]:
    """Of the engine on each side."""
    config = folder / "engine.toml"
    path = json.dumps(str(Path(weights).resolve())) if weights else ""
    config.write_text(f"[models.{model}]\nweights = {path}\n" if weights else "")
    return {"config": str(config), "load_at_start": model, "converted_dir": str(folder), "log_format": "json"}


def start(stack: ExitStack, settings: Mapping[str, str]) -> dict[str, RunningServer]:
    """All sides, ready."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    alone = [sys.executable, "-m", "server", "serve", "--port", "0", *flags]
    sides = {"alone": stack.enter_context(start_process(alone, ENVIRONMENT))}
    given = [f"{name}={value}" for name, value in settings.items()]
    for proxy, switch in PROXIES.items():
        environment = {**RAY, "RAY_SERVE_ENABLE_HA_PROXY": switch}
        command = [sys.executable, "-m", "bench.ray_side", *given]
        sides[proxy] = stack.enter_context(start_process(command, environment))
    return sides


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The turns, and for each proxy the medians of their ratios: behind it to alone."""
    model = MODEL if args.weights else DEMO
    turns: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = start(stack, settings_of(model, args.weights, folder))
        executed = {name: executed_by(side, model) for name, side in sides.items()}
        numbers, pictures = iter(range(0, 1 << 31, _APART)), Pictures()
        for turn in range(args.turns):
            figures: dict[str, Any] = {}
            for clients in args.clients:
                for name, side in sides.items():
                    load = Load(clients, None, args.seconds, args.warmup, first=next(numbers))
                    requests = engine_requests(side.url, model, pictures)
                    tally = uvloop.run(measure(side.url, requests, load))
                    figures[f"{name} {clients}"] = tally.figures(args.seconds)
            turns.append(figures)
            print(f"turn {turn + 1} of {args.turns}", file=sys.stderr, flush=True)
        for side in sides.values():
            stop_cleanly(side)
    summaries = [summary(turns, clients) for clients in args.clients]
    return {"model": model, "executed_by": executed, "turns": turns, "summary": summaries}


def summary(turns: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    """Medians over the turns for one number of clients."""

    def rates(name: str) -> list[float]:
        return [turn[f"{name} {clients}"]["per_second"] for turn in turns]

    def latency(name: str, percentile: str) -> float:
        return statistics.median(turn[f"{name} {clients}"]["latency_seconds"][percentile] for turn in turns)

    row: dict[str, Any] = {"clients": clients}
    for name in ("alone", *PROXIES):
        ratios = [behind / alone for behind, alone in zip(rates(name), rates("alone"), strict=True)]
        row[name] = {
            "per_second": statistics.median(rates(name)),
            **{percentile: latency(name, percentile) for percentile in ("p50", "p99")},
            "ratio": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
        }
    return row


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="a YOLO file; without it the demo model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(record("ray_serve", vars(args), run(args))))


if __name__ == "__main__":
    main()
