"""Damaged pictures through the whole server: every one has a 200, 413, 415 or 422, and nobody dies of it.

    python -m bench.mutate --count 200000            # a model that does nothing, which is what takes the pictures' side
    python -m bench.mutate --count 20000 --model shapes-detect

The last line is one JSON: replies by status and code, connections lost, processes that died, memory of the front,
times. `--seed` and a number make the same picture again: `Mutants(seed, corpus()).make(number)`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench import noop
from bench.chaos.census import descendants, resident_bytes
from bench.client import build_request, connect
from bench.mutants import Mutants, corpus
from bench.record import percentiles, record
from bench.serving import RunningServer, start_process

ALLOWED = frozenset({200, 413, 415, 422})
MAX_GROWTH_BYTES = 256 * 2**20
"""What the front may hold more at the end than after the first tenth: nothing that grows with the number."""
_MAX_KEPT = 20


@dataclass
class Outcome:
    """What came of all of them; `wrong` are numbers of pictures that were not answered as they should."""

    replies: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    num_lost: int = 0
    seconds: list[float] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    resident: list[int] = field(default_factory=list)
    num_died: int = 0

    def note(self, number: int, status: int, body: bytes, seconds: float) -> None:
        """One reply."""
        code = "ok" if status == 200 else str(json.loads(body)["error"]["code"])
        self.replies[f"{status} {code}"] += 1
        self.seconds.append(seconds)
        self.slowest = max(self.slowest, (seconds, number))
        if status not in ALLOWED:
            self.wrong.append(f"{number}: {status} {code}")

    def complaints(self) -> list[str]:
        """What must not be."""
        found = self.wrong[:_MAX_KEPT]
        growth = self.resident[-1] - self.resident[len(self.resident) // 10]
        found += [f"the front has grown by {growth} bytes"] if growth > MAX_GROWTH_BYTES else []
        found += [f"{self.num_lost} connections were lost"] if self.num_lost else []
        found += [f"{self.num_died} processes have died"] if self.num_died else []
        return found

    def figures(self) -> dict[str, Any]:
        """For the record."""
        return {
            "replies": dict(sorted(self.replies.items())),
            "connections_lost": self.num_lost,
            "processes_died": self.num_died,
            "front_resident_bytes": {
                "first": self.resident[0],
                "last": self.resident[-1],
                "max": max(self.resident),
            },
            "seconds": percentiles(self.seconds),
            "slowest": {"seconds": self.slowest[0], "number": self.slowest[1]},
            "complaints": self.complaints(),
        }


async def _client(
    server: RunningServer, model: str, mutants: Mutants, numbers: Iterator[int], outcome: Outcome
) -> None:
    connection = await connect(server.url)
    for number in numbers:
        form = "json" if number % 5 == 0 else "raw"
        request = build_request(server.url, model, mutants.make(number) or b"\x00", form)
        if number % 500 == 0:
            outcome.resident.append(resident_bytes(server.process.pid))
        started = time.monotonic()
        try:
            reply = await connection.send(request)
        except ConnectionError:
            outcome.num_lost += 1
            outcome.wrong.append(f"{number}: lost")
            connection = await connect(server.url)
            continue
        outcome.note(number, reply.status, reply.body, time.monotonic() - started)
    connection.close()


async def send_all(
    server: RunningServer, model: str, mutants: Mutants, numbers: Iterator[int], num_clients: int = 6
) -> Outcome:
    """Send these mutants over several connections at once."""
    outcome = Outcome(resident=[resident_bytes(server.process.pid)])
    before = set(descendants(server.process.pid))
    clients = (_client(server, model, mutants, numbers, outcome) for _ in range(num_clients))
    await asyncio.gather(*clients)
    outcome.resident.append(resident_bytes(server.process.pid))
    outcome.num_died = len(before - set(descendants(server.process.pid)))
    return outcome


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="bench.mutate", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--model", default=noop.MODEL)
    args = parser.parse_args()
    command = [sys.executable, "-m", "bench.noop", "--port", "0"]
    if args.model != noop.MODEL:
        command = [sys.executable, "-m", "server", "serve", "--port", "0"]
    with start_process(
        command, {"ENGINE_LOAD_AT_START": args.model, "ENGINE_LOG_LEVEL": "warning"}
    ) as server:
        started = time.monotonic()
        mutants = Mutants(args.seed, corpus())
        outcome = asyncio.run(send_all(server, args.model, mutants, iter(range(args.count)), args.clients))
        took = time.monotonic() - started
        is_alive = server.process.poll() is None and server.stop() == 0
    figures = {"num_pictures": args.count, "took": took, "front_ended_well": is_alive, **outcome.figures()}
    print(json.dumps(record("mutate", vars(args), figures)))
    return 0 if is_alive and not outcome.complaints() else 1


if __name__ == "__main__":
    sys.exit(main())
