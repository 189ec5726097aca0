"""Every bench, one after the other, each with its sides in turns; results go to bench/results, then the report.

    python -m bench.all --folder weights --converted-dir weights/converted      # about 40 minutes; `make bench`
    python -m bench.all --quick              # minutes, to see that everything works: into a folder of its own
    python -m bench.all --only peak tail     # these alone
    python -m bench.all --list               # the commands and how long each takes, without running them

Nothing else should run on the machine. What `auto` chooses for the network is asked once, and all sides of all benches
get it by name. The most important come first; one that fails or takes three times as long as expected leaves no
result, the others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.adapter import ENGINE_KEYS
from bench.engine import engine, executed_by
from bench.report import RESULTS
from bench.weights import random_blip, random_yolo


@dataclass(frozen=True)
class Bench:
    """`module` with `options`, or with `quick` for a look. `network`: the option that names the weights, empty where
    it takes none. `minutes` are expected, on two slow cores."""

    module: str
    minutes: float
    options: Sequence[str] = ()
    quick: Sequence[str] = ()
    network: str = "yolo"

    def command(self, is_quick: bool, networks: Mapping[str, Sequence[str]]) -> list[str]:
        """What is run."""
        given = [*networks[self.network], *(self.quick if is_quick else self.options)]
        return [sys.executable, "-m", *self.module.split(), *given]


_SHORT = ("--turns", "1", "--seconds", "3", "--warmup", "1")
_PEERS = ("--peers", "fastapi", "litserve", "mosec", "bentoml")
BENCHES: Mapping[str, Bench] = {
    "peak": Bench(
        "bench.peak",
        3,
        ("--seconds", "8", "--warmup", "2", "--search-seconds", "2", "--batch-sizes", "1", "4"),
        (*_SHORT, "--search-seconds", "1", "--batch-sizes", "1"),
    ),
    "tail": Bench(
        "bench.tail",
        3,
        ("--seconds", "40", "--peak-seconds", "8", "--warmup", "2"),
        (*_SHORT, "--peak-seconds", "3"),
    ),
    "single": Bench("bench.single", 1.2, ("--seconds", "6", "--warmup", "1"), _SHORT),
    "memory-yolov8n": Bench(
        "bench.memory",
        1,
        ("--starts", "2", "--kills", "5", "--seconds", "4"),
        ("--starts", "1", "--kills", "1", "--seconds", "3"),
        "memory",
    ),
    "memory-demo": Bench(
        "bench.memory",
        1.2,
        ("--starts", "2", "--kills", "5", "--seconds", "4"),
        ("--starts", "1", "--kills", "1", "--seconds", "1"),
        "",
    ),
    "together": Bench("bench.together", 1.7, ("--seconds", "8", "--warmup", "1.5"), _SHORT),
    "peers": Bench(
        "bench.peers run",
        10,
        (*_PEERS, "--turns", "2", "--seconds", "6", "--warmup", "1", "--tuning-seconds", "2"),
        (*_SHORT, "--tuning-seconds", "1", "--peers", "fastapi", "mosec"),
    ),
    "blip": Bench(
        "bench.blip",
        1.5,
        ("--threads", "2", "--batches", "1", "4", "--rounds", "2"),
        ("--threads", "2", "--batches", "1", "--rounds", "1"),
        "blip",
    ),
    "questions": Bench(
        "bench.questions",
        1.2,
        ("--threads", "2", "--rounds", "2"),
        ("--threads", "2", "--rounds", "1"),
        "blip",
    ),
    "pieces": Bench(
        "bench.pieces", 0.5, ("--seconds", "8"), ("--seconds", "2", "--piece-seconds", "0.2"), ""
    ),
    "sweep": Bench(
        "bench.sweep",
        1.7,
        ("--seconds", "7", "--warmup", "1"),
        ("--seconds", "3", "--warmup", "0.5", "--clients", "1", "8", "--shares", "0.7"),
    ),
    "ray-yolov8n": Bench("bench.ray_serve", 3.5, (), _SHORT, "memory"),
    "ray-demo": Bench("bench.ray_serve", 3.5, (), _SHORT, ""),
    "scaling": Bench("bench.scaling", 1, ("--scenes", "200"), ("--scenes", "20"), ""),
    "slowloris": Bench(
        "bench.slowloris", 2.5, (), ("--pairs", "1", "--seconds", "5", "--connections", "100"), ""
    ),
    "peers-ray": Bench(
        "bench.peers run",
        3,
        (
            "--peers",
            "ray",
            "--no-noop",
            "--turns",
            "2",
            "--seconds",
            "6",
            "--warmup",
            "1",
            "--tuning-seconds",
            "2",
        ),
        (*_SHORT, "--no-noop", "--tuning-seconds", "1", "--peers", "ray", "--variants", "adapter"),
    ),
}
"""In the order in which they run. `peers` need `python -m bench.peers install` once."""
_PATIENCE = 3.0
_GRACE = 120.0
"""Seconds on top, for starts on a busy machine."""
_STOP_SECONDS = 60.0


def run(name: str, command: Sequence[str], folder: Path) -> bool:
    """Run it and keep its result as `name`.json. False if it failed."""
    limit = _PATIENCE * 60 * BENCHES[name].minutes + _GRACE
    print(f"== {name}: {' '.join(command[1:])}", file=sys.stderr, flush=True)
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except (KeyboardInterrupt, subprocess.TimeoutExpired) as error:
            _stop(process)
            if isinstance(error, KeyboardInterrupt):
                raise
            print(f"== {name} was ended after {limit:.0f} s", file=sys.stderr, flush=True)
            return False
    if process.returncode != 0:
        print(f"== {name} failed with {process.returncode}", file=sys.stderr, flush=True)
        return False
    print(f"== {name} took {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr, flush=True)
    result = json.loads(output.splitlines()[-1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    return True


def _stop(process: subprocess.Popen[str]) -> None:
    """SIGINT first, so that it ends the servers that it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    """Entry point."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = _parser().parse_args()
    if args.list:
        for name in args.only:
            bench = BENCHES[name]
            print(f"{name:15} {bench.minutes:4.1f} min  {bench.module} {' '.join(bench.options)}")
        print(f"{'all':15} {sum(BENCHES[name].minutes for name in args.only):4.1f} min")
        return 0
    networks = _networks(args)
    folder = args.results or (RESULTS / "quick" if args.quick else RESULTS)
    commands = {name: BENCHES[name].command(args.quick, networks) for name in args.only}
    failed = [name for name, command in commands.items() if not run(name, command, folder)]
    if not args.quick:
        subprocess.run([sys.executable, "-m", "bench.report", "--results", str(folder)], check=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _networks(args: argparse.Namespace) -> dict[str, list[str]]:
    """The options that name each network, made where it is not there yet."""
    kinds = {BENCHES[name].network for name in args.only}
    found: dict[str, list[str]] = {"": []}
    converted = str((args.converted_dir or args.folder / "converted").resolve())
    if kinds & {"yolo", "memory"}:
        weights = ["--weights", str(random_yolo(args.folder))]
        found |= {"memory": weights, "yolo": weights}
    if "yolo" in kinds:
        asked = {"runtime": args.runtime, "precision": args.precision, "converted_dir": converted}
        with engine(weights[1], asked) as server:
            chosen = {**asked, **{key: executed_by(server)[key] for key in ("runtime", "precision")}}
        print(f"network and converted folder of all sides: {chosen}", file=sys.stderr, flush=True)
        options = [part for key in ENGINE_KEYS for part in (f"--{key.replace('_', '-')}", chosen[key])]
        found["yolo"] = [*weights, *options]
    if "blip" in kinds:
        blip = random_blip(args.blip_folder or args.folder)
        found["blip"] = [str(blip), "--converted", converted]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), default=list(BENCHES))
    parser.add_argument("--folder", type=Path, default=Path("weights"), help="where weights are made")
    parser.add_argument("--blip-folder", type=Path, help="of BLIP's weights, 1.4 GB; default: --folder")
    parser.add_argument("--converted-dir", type=Path, help="default: converted in --folder")
    parser.add_argument("--runtime", default="auto", help="of YOLO, as the engine's setting")
    parser.add_argument("--precision", default="auto", help="of YOLO, as the engine's setting")
    parser.add_argument(
        "--results", type=Path, help="default: bench/results, with --quick bench/results/quick"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
