"""Every bench, one after the other, each with its sides in turns; results go to bench/results, then the report.

    python -m bench.all                      # about an hour; `make bench`
    python -m bench.all --quick              # minutes, to see that everything works: into a folder of its own
    python -m bench.all --only peak tail     # these alone
    python -m bench.all --list               # the commands, without running them

Nothing else should run on the machine. A bench that fails leaves no result, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.adapter import ENGINE_KEYS
from bench.report import RESULTS
from bench.weights import random_yolo


@dataclass(frozen=True)
class Bench:
    """`module` with `options`, or with `quick` for a look. `takes_weights`: and the network, and how it is run."""

    module: str
    options: Sequence[str] = ()
    quick: Sequence[str] = ()
    takes_weights: bool = True

    def command(self, is_quick: bool, weights: str, runtime: Sequence[str]) -> list[str]:
        """What is run."""
        network = ["--weights", weights, *runtime] if self.takes_weights else []
        return [
            sys.executable,
            "-m",
            *self.module.split(),
            *network,
            *(self.quick if is_quick else self.options),
        ]


_SHORT = ("--turns", "1", "--seconds", "3", "--warmup", "1")
BENCHES: Mapping[str, Bench] = {
    "pieces": Bench("bench.pieces", (), ("--seconds", "2"), takes_weights=False),
    "peak": Bench("bench.peak", (), (*_SHORT, "--search-seconds", "1", "--batch-sizes", "1", "4")),
    "tail": Bench("bench.tail", (), (*_SHORT, "--peak-seconds", "3")),
    "sweep": Bench(
        "bench.sweep", (), ("--seconds", "2", "--warmup", "0.5", "--clients", "1", "8", "--shares", "0.7")
    ),
    "single": Bench("bench.single", (), _SHORT),
    "memory-demo": Bench(
        "bench.memory", (), ("--starts", "1", "--kills", "1", "--seconds", "1"), takes_weights=False
    ),
    "memory-yolov8n": Bench("bench.memory", (), ("--starts", "1", "--kills", "1", "--seconds", "1")),
    "peers": Bench("bench.peers run", (), (*_SHORT, "--tuning-seconds", "1", "--peers", "fastapi", "mosec")),
}
"""In the order in which they run. `peers` needs `python -m bench.peers install` once."""


def run(name: str, command: Sequence[str], folder: Path) -> bool:
    """Run it and keep its result as `name`.json. False if it failed."""
    print(f"== {name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # so that it ends the servers that it has started
            raise
    if process.returncode != 0:
        print(f"== {name} failed with {process.returncode}", file=sys.stderr, flush=True)
        return False
    result = json.loads(output.splitlines()[-1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return True


def main() -> int:
    """Entry point."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument(
        "--folder", type=Path, default=Path("weights"), help="where the network's weights are made"
    )
    parser.add_argument(
        "--results", type=Path, help="default: bench/results, with --quick bench/results/quick"
    )
    for key in ENGINE_KEYS:
        parser.add_argument(f"--{key.replace('_', '-')}", help="for all benches, as the engine's setting")
    args = parser.parse_args()
    runtime = [
        part
        for key in ENGINE_KEYS
        if (value := getattr(args, key)) is not None
        for part in (f"--{key.replace('_', '-')}", value)
    ]
    weights = str(args.folder / "yolov8n.pt") if args.list else str(random_yolo(args.folder))
    folder = args.results or (RESULTS / "quick" if args.quick else RESULTS)
    commands = {name: BENCHES[name].command(args.quick, weights, runtime) for name in args.only}
    if args.list:
        for command in commands.values():
            print("python", *command[1:])
        return 0
    failed = [name for name, command in commands.items() if not run(name, command, folder)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    elif not args.quick:
        subprocess.run([sys.executable, "-m", "bench.report", "--results", str(folder)], check=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
