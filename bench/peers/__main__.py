"""Install peers, list them, or measure the engine beside them; the last line of `run` is one JSON document.

    python -m bench.peers install [NAME ...]
    python -m bench.peers run --weights FOLDER/yolov8n.pt --converted-dir FOLDER/converted

A peer that cannot be installed or does not start is named in the result with the reason, and never given a figure.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

from bench.adapter import add_options, chosen_options
from bench.peers.catalogue import PEERS, VARIANTS
from bench.peers.comparison import Comparison, compare
from bench.peers.environments import DEFAULT_FOLDER, install


def main() -> int:
    """Entry point; `install` gives 1 if any could not be."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are ended then too
    args = _parser().parse_args()
    if args.command == "list":
        for peer in PEERS.values():
            print(f"{peer.name:10} {peer.why}")
        return 0
    if args.command == "install":
        return _install(args.names or list(PEERS), args.folder)
    options = chosen_options(args)
    plan = Comparison(
        weights=str(Path(args.weights).resolve()),
        peers=args.peers,
        variants=args.variants,
        folder=args.folder,
        clients=args.clients,
        seconds=args.seconds,
        warmup=args.warmup,
        tuning_seconds=args.tuning_seconds,
        turns=args.turns,
        options=options,
        noop=args.noop,
    )
    print(json.dumps(compare(plan)))
    return 0


def _install(names: list[str], folder: Path) -> int:
    failed = 0
    for name in names:
        try:
            is_new = install(name, folder)
            print(f"{name}: {'installed' if is_new else 'there already'}", file=sys.stderr, flush=True)
        except subprocess.CalledProcessError as error:
            failed += 1
            print(f"{name}: not installed: {error.stderr.strip()}", file=sys.stderr)
    return min(failed, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="where the environments are")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("install").add_argument("names", nargs="*", choices=[*PEERS, []])
    run = commands.add_parser("run")
    add_options(run)
    run.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    run.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    run.add_argument(
        "--no-noop", dest="noop", action="store_false", help="without the model that does nothing"
    )
    run.add_argument("--clients", type=int, default=16)
    run.add_argument("--seconds", type=float, default=12.0, help="of each turn")
    run.add_argument("--warmup", type=float, default=3.0)
    run.add_argument(
        "--tuning-seconds", type=float, default=5.0, help="of each of a peer's candidate settings"
    )
    run.add_argument("--turns", type=int, default=3)
    return parser


if __name__ == "__main__":
    sys.exit(main())
