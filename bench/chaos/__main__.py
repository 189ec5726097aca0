"""Runs of chaos, one by one.

    python -m bench.chaos kill --seconds 60 --interval 0.5          # --real: shapes-detect instead of a fake model
    python -m bench.chaos mixed --seconds 300
    python -m bench.chaos poison --requests 10000 --every 1000
    python -m bench.chaos leave
    python -m bench.chaos overload --seconds 60                     # --real
    python -m bench.chaos endurance --requests 100000               # --leaks must fail
    python -m bench.chaos crash-loop

The last line of the output is one JSON document; the exit code is 1 when a check has failed. The model, if not
shapes-detect, is a fake one behind the real server: it sleeps and answers with the checksum of the picture it saw.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.chaos import checks
from bench.chaos.runs.crash_loop import crash_loop
from bench.chaos.runs.endurance import endurance
from bench.chaos.runs.leave import leave
from bench.chaos.runs.overload import overload
from bench.chaos.runs.poison import poison
from bench.chaos.runs.storm import kill, mixed
from bench.record import record

RUNS: Mapping[str, tuple[Callable[..., dict[str, Any]], Mapping[str, Any]]] = {
    "kill": (kill, {"seconds": 60.0, "interval": 0.5, "calm_seconds": 20.0, "real": False}),
    "mixed": (mixed, {"seconds": 300.0, "interval": 1.0, "calm_seconds": 20.0}),
    "poison": (poison, {"num_requests": 10_000, "every": 1000}),
    "leave": (leave, {}),
    "overload": (overload, {"seconds": 60.0, "peak_seconds": 10.0, "real": False}),
    "endurance": (endurance, {"num_requests": 100_000, "leaks": False}),
    "crash-loop": (crash_loop, {"idle_seconds": 60.0, "num_pairs": 5, "pair_seconds": 10.0}),
}
"""Every run with its options and their defaults."""


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    runs = parser.add_subparsers(dest="run", required=True)
    for name, (_, defaults) in RUNS.items():
        of_run = runs.add_parser(name)
        of_run.add_argument("--output", type=Path, help="also append the JSON to this file")
        for option, default in defaults.items():
            flag = "--" + option.removeprefix("num_").replace("_", "-")
            if default is False:
                of_run.add_argument(flag, dest=option, action="store_true")
            else:
                of_run.add_argument(flag, dest=option, type=type(default), default=default)
    arguments = vars(parser.parse_args())
    name, output = arguments.pop("run"), arguments.pop("output")
    load_before = os.getloadavg()
    outcome = RUNS[name][0](**arguments)
    verdicts = outcome.pop("checks")
    outcome |= checks.figures(verdicts) | {"load_average": [load_before, os.getloadavg()]}
    document = json.dumps(record(f"chaos-{name}", arguments, outcome))
    for check in verdicts:
        print("ok  " if check.passed else "FAIL", f"{check.name}: {check.value} ({check.bound})")
    if output is not None:
        with output.open("a") as file:
            file.write(document + "\n")
    print(document)
    return 0 if outcome["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
