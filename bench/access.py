"""What keys and a rate limit cost each request, in front of an application that does nothing.

    python -m bench.access

Microseconds of this process's one thread: the kinds in turns, the median of the rounds and the fastest. The last line
of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bench.record import record
from server.access import Access
from server.keys import PREFIX, Keys, digest_of
from server.rate_limit import RateLimit

KEY = PREFIX + "k" * 43
NUM_REQUESTS = 500


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    pass


async def _receive() -> Message:
    raise AssertionError("nothing is read")


async def _send(message: Message) -> None:
    raise AssertionError("nothing is refused")


def kinds(folder: Path) -> Mapping[str, ASGIApp]:
    """What may stand in front of the routes, by name; the key that is presented is the first of its file."""
    limited, unlimited = RateLimit(1e6, 1_000_000), RateLimit(0.0, 1)
    made: dict[str, ASGIApp] = {"nothing": _nothing, "rate limit": Access(_nothing, None, limited, ())}
    for num_keys in (1, 10, 100, 1000):
        path = folder / f"{num_keys}.toml"
        texts = [KEY, *map(str, range(1, num_keys))]
        lines = [
            f'k{number} = {{sha256 = "{digest_of(text.encode()).hex()}"}}'
            for number, text in enumerate(texts)
        ]
        path.write_text("\n".join(lines))
        made[f"keys: {num_keys}"] = Access(_nothing, Keys(path, 1.0), unlimited, ())
    made["keys: 1000, rate limit"] = Access(_nothing, Keys(folder / "1000.toml", 1.0), limited, ())
    return made


def _scope() -> Scope:
    headers = {
        "host": "x",
        "user-agent": "x",
        "content-type": "image/jpeg",
        "content-length": "9",
        "accept": "*/*",
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"authorization", b"Bearer " + KEY.encode()))
    return {"type": "http", "path": "/inference", "headers": pairs, "state": {}, "client": ("127.0.0.1", 1)}


def _one_round(app: ASGIApp) -> float:
    """Microseconds a request."""
    scopes = [_scope() for _ in range(NUM_REQUESTS)]
    before = time.perf_counter()
    for scope in scopes:
        try:
            app(scope, _receive, _send).__await__().__next__()
        except StopIteration:
            continue
        raise AssertionError("nothing waits")
    return (time.perf_counter() - before) / NUM_REQUESTS * 1e6


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        apps = kinds(Path(folder))
        took: dict[str, list[float]] = {name: [] for name in apps}
        for _ in range(args.rounds):
            for name, app in apps.items():
                took[name].append(_one_round(app))
    figures = {
        name: {"median_us": round(statistics.median(each), 2), "fastest_us": round(min(each), 2)}
        for name, each in took.items()
    }
    for name, figure in figures.items():
        print(f"{name}: {figure}", file=sys.stderr)
    print(json.dumps(record("access", vars(args), figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
