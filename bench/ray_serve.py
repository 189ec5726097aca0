"""What Ray Serve costs in front of the engine: the same engine alone and behind Ray's proxy, in turns.

    python -m bench.ray_serve [--weights FOLDER/yolov8n.pt]

Needs the extra `ray`. Without weights: the demo model `shapes-detect`. Both stand ready all the time and have the same
cores; only one of them works at a time. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench.engine import ENVIRONMENT, MODEL, stop_cleanly
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.record import record
from bench.serving import start_process

DEMO = "shapes-detect"
MEMORY = 80_000_000
_APART = 1_000_000


def free_port() -> int:
    """Nobody has it now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def behind_ray(settings: dict[str, str]) -> Iterator[str]:
    """Address of a proxy of Ray on a cluster of this machine, with one replica that has every core."""
    import ray
    from ray import serve

    from server.ray_app import EngineArguments, build

    # Replicas and proxies run at nice 15 otherwise, and the engine alone and the clients do not.
    os.environ.update(ENVIRONMENT, RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    num_cores = len(os.sched_getaffinity(0))
    ray.init(
        "local", num_cpus=num_cores, include_dashboard=False, object_store_memory=MEMORY, log_to_driver=False
    )
    try:
        port = free_port()
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        arguments = EngineArguments(num_cpus=num_cores, num_gpus=0, max_replicas=1, **settings)  # type: ignore[arg-type]
        serve.run(build(arguments), name="engine", route_prefix="/")
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The turns, and the medians of their ratios: behind Ray to alone."""
    model = MODEL if args.weights else DEMO
    turns: list[dict[str, Any]] = []
    with ExitStack() as stack:
        config = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "engine.toml"
        table = (
            f"[models.{MODEL}]\nweights = {json.dumps(str(Path(args.weights).resolve()))}\n"
            if args.weights
            else ""
        )
        config.write_text(table)
        settings = {"config": str(config), "load_at_start": model, "threads": "1", "log_format": "json"}
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "server", "serve", "--port", "0", *flags]
        alone = stack.enter_context(start_process(command, ENVIRONMENT))
        urls = {"alone": alone.url, "ray": stack.enter_context(behind_ray(settings))}
        numbers, pictures = iter(range(0, 1 << 31, _APART)), Pictures()
        for turn in range(args.turns):
            figures: dict[str, Any] = {}
            for clients in args.clients:
                for name, url in urls.items():
                    load = Load(clients, None, args.seconds, args.warmup, first=next(numbers))
                    requests = engine_requests(url, model, pictures)
                    figures[f"{name} {clients}"] = uvloop.run(measure(url, requests, load)).figures(
                        args.seconds
                    )
            turns.append(figures)
            print(f"turn {turn + 1} of {args.turns}", file=sys.stderr, flush=True)
        stop_cleanly(alone)
    return {"turns": turns, "summary": [summary(turns, clients) for clients in args.clients]}


def summary(turns: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    """Medians over the turns for one number of clients."""

    def median(name: str, read: Any) -> float:
        return float(statistics.median(read(turn[f"{name} {clients}"]) for turn in turns))

    def rate(figures: dict[str, Any]) -> float:
        return float(figures["per_second"])

    figures: dict[str, Any] = {"clients": clients}
    for name in ("alone", "ray"):
        figures[name] = {
            "per_second": median(name, rate),
            **{p: median(name, lambda each, p=p: each["latency_seconds"][p]) for p in ("p50", "p99")},
        }
    ratios = [rate(turn[f"ray {clients}"]) / rate(turn[f"alone {clients}"]) for turn in turns]
    return {**figures, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


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
