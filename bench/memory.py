"""What the engine takes of memory while it serves, how soon it is ready, and how soon a killed worker is back.

    python -m bench.memory                                   # the shipped demo models
    python -m bench.memory --weights FOLDER/yolov8n.pt       # these instead

The first start has an empty folder for converted models, as on a machine that never ran the engine; later ones find
there what the first has left. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop

from bench.chaos.census import descendants
from bench.engine import ENVIRONMENT, MODEL, engine, executed_by, stop_cleanly
from bench.load import Load, engine_requests, measure
from bench.pictures import Pictures
from bench.record import percentiles, record
from bench.serving import RunningServer, start_process
from server.footprint import footprint

_BETWEEN_KILLS = 2.0
RESPAWN_TIMEOUT = 120.0
_POLL = 0.005


@contextmanager
def demo_engine(options: dict[str, str]) -> Iterator[RunningServer]:
    """`inference-engine serve` as it comes, with `options` as settings by name."""
    environment = {f"ENGINE_{name.upper()}": value for name, value in options.items()}
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--log-format", "json"]
    with start_process(command, {**ENVIRONMENT, **environment}) as server:
        yield server
        stop_cleanly(server)


def resident(pid: int) -> int:
    """Resident bytes of a process, shared pages included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sizes(pid: int) -> dict[str, int]:
    """Bytes: `resident`, `fair` (shared pages divided among their users) and `private`; slabs only in the first."""
    of = footprint(pid)
    return {"resident": resident(pid), "fair": of.fair, "private": of.private}


def worker_pids(server: RunningServer) -> dict[str, list[int]]:
    """By model, of those that are loaded."""
    found = {}
    for row in server.get("/models")["models"]:
        told = server.get(f"/models/{row['model_id']}")
        if pids := [replica["pid"] for replica in told["replicas"] if replica["pid"]]:
            found[row["model_id"]] = pids
    return found


def take(server: RunningServer) -> dict[str, Any]:
    """Sizes of the front, of each model's workers, and of everything else that belongs to it (forkservers)."""
    workers = worker_pids(server)
    known = {pid for pids in workers.values() for pid in pids}
    others = [pid for pid in descendants(server.process.pid) if pid not in known]
    return {
        "front": sizes(server.process.pid),
        "workers": {model: [sizes(pid) for pid in pids] for model, pids in workers.items()},
        "forkservers": [sizes(pid) for pid in others],
    }


def respawn_seconds(server: RunningServer, model: str) -> float:
    """Kill the first worker of `model` with SIGKILL; seconds until another one serves in its place.

    Raises TimeoutError.
    """
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:

        def replica() -> dict[str, Any]:
            told: dict[str, Any] = client.get(f"/models/{model}").json()["replicas"][0]
            return told

        pid = replica()["pid"]
        started = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while time.perf_counter() - started < RESPAWN_TIMEOUT:
            now = replica()
            if now["pid"] not in (None, pid) and now["state"] in ("ready", "busy"):
                return time.perf_counter() - started
            time.sleep(_POLL)
    raise TimeoutError(f"no worker of {model} came back within {RESPAWN_TIMEOUT} s")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Starts, sizes while serving, respawns."""
    model = MODEL if args.weights else "shapes-detect"
    with tempfile.TemporaryDirectory() as folder:
        options = {"converted_dir": folder, "lame_duck": "0"}
        ready = []
        for start in range(args.starts + 1):
            began = time.perf_counter()
            chosen = engine(args.weights, options) if args.weights else demo_engine(options)
            with chosen as server:
                ready.append(time.perf_counter() - began)
                print(f"start {start}: ready in {ready[-1]:.2f} s", file=sys.stderr, flush=True)
                if start < args.starts:
                    continue
                requests = engine_requests(server.url, model, Pictures())
                uvloop.run(measure(server.url, requests, Load(8, None, args.seconds, 0.0)))
                memory, told = take(server), executed_by(server, model)
                print(f"executed by {told}", file=sys.stderr, flush=True)
                respawns = []
                for _ in range(args.kills):
                    respawns.append(respawn_seconds(server, model))
                    # a worker that has done nothing yet is started again with a delay, were it to die
                    uvloop.run(measure(server.url, requests, Load(4, None, _BETWEEN_KILLS, 0.0)))
    return {
        "model": model,
        "executed_by": told,
        "seconds_to_ready": {
            "first_start": ready[0],
            "later_starts": ready[1:],
            "median": statistics.median(ready[1:]),
        },
        "memory_bytes": memory,
        "respawn_seconds": {**percentiles(respawns), "all": respawns},
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help="serve these instead of the demo models")
    parser.add_argument("--starts", type=int, default=3, help="after the first")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load before memory is read")
    args = parser.parse_args()
    settings = {"starts": args.starts, "kills": args.kills, "seconds": args.seconds}
    print(json.dumps(record("memory", settings, run(args))))


if __name__ == "__main__":
    main()
