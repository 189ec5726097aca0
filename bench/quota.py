"""Two engines of one core each on one machine: both on its first core, and both with one that the kernel chooses.

    python -m bench.quota

A CPU quota says how many cores a container pays for and names none (pool/core_budget.py). `first`: both pools of the
demo model are pinned to this machine's first core, as engines are that take the lowest numbers. `counted`: both plan
with one core and pin nobody. No cgroup is needed for that, what is compared are the plans. Needs two cores. The last
line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from typing import Any

from bench.record import record
from pool import CoreBudget, Pool
from server.launch import Launching
from server.settings_load import load_settings
from server.table import known_models

MODEL = "shapes-detect"
CLIENTS = 8
PLANS = ("first", "counted")


async def ask(pool: Pool, seconds: float) -> float:
    """Images a second of a closed loop of `CLIENTS`, each picture of one colour."""
    ends, num_answered = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal num_answered
        while (now := time.monotonic()) < ends:
            with await pool.lease(now + 60) as lease:
                lease.pixels[:] = num_answered % 255
                await pool.infer(lease, {"width": 640, "height": 480}, now + 60)
            num_answered += 1

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return num_answered / seconds


async def serve(plan: str, folder: str, seconds: float) -> None:
    """One of the two engines: says when it is ready, asks itself when a line comes, says how fast it was."""
    first = min(os.sched_getaffinity(0))
    cores = CoreBudget.of([first]) if plan == "first" else CoreBudget(1)
    given = {"device": "cpu", "runtime": "openvino", "precision": "fp32", "converted_dir": folder}
    settings = load_settings(given)
    pool = Launching(settings, 1, cores=cores).make_pool(known_models(settings)[MODEL])
    await pool.start()
    while pool.state != "ready":  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.05)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(await ask(pool, seconds), flush=True)
    await pool.stop()


def both(plan: str, folder: str, seconds: float) -> float:
    """Images a second of the two together."""
    command = [sys.executable, "-m", "bench.quota", "--plan", plan, "--folder", folder]
    with ExitStack() as stack:
        engines = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, "--seconds", str(seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(2)
        ]
        said = [engine.stdout for engine in engines if engine.stdout is not None]
        if [line.readline() for line in said] != ["ready\n"] * 2:
            raise RuntimeError("an engine did not start")
        for engine in engines:
            assert engine.stdin is not None
            engine.stdin.write("\n")
            engine.stdin.flush()
        return sum(float(line.readline()) for line in said)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All turns, and the median of their ratios."""
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.turns):
            rates = {plan: both(plan, folder, args.seconds) for plan in PLANS[:: 1 - 2 * (turn % 2)]}
            turns.append(rates | {"ratio": rates["counted"] / rates["first"]})
            print(f"turn {turn + 1}: {turns[-1]}", file=sys.stderr, flush=True)
    ratios = [turn["ratio"] for turn in turns]
    return {"turns": turns, "ratio": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--plan", choices=PLANS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plan:
        asyncio.run(serve(args.plan, args.folder, args.seconds))
        return
    print(json.dumps(record("quota", {"seconds": args.seconds, "turns": args.turns}, run(args))))


if __name__ == "__main__":
    main()
