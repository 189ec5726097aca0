"""Which cores an engine has to itself where Ray says only how many: no two engines of one machine get the same."""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

_NAME = "\0model-inference-engine.core."
"""Of a socket that has no file. The kernel lets one process have it, and frees it however that process ends."""
MAX_SHARERS = 64
"""Engines of one core among which it is shared out evenly."""
_THREADS = Path("/proc/self/task")


class Cores:
    """Cores that are this process's own until `release`, or its end."""

    def __init__(self, num_wanted: float, among: Sequence[int]) -> None:
        """`num_wanted` is rounded up. Where fewer are free than were promised, the rest is shared with others: those
        cores that the fewest have."""
        self._claims: list[socket.socket] = []
        wanted = min(max(1, math.ceil(num_wanted)), len(among))
        own = self._claim(among, wanted, 0)
        got = list(own)
        for round_ in range(1, MAX_SHARERS):
            got += self._claim([core for core in among if core not in got], wanted - len(got), round_)
        got += [core for core in among if core not in got][: wanted - len(got)]
        self.numbers = tuple(sorted(got))
        self.num_shared = len(got) - len(own)
        """How many of them other engines had before."""

    def _claim(self, among: Sequence[int], num_wanted: int, round_: int) -> list[int]:
        """Each core can be had once a round."""
        got: list[int] = []
        for core in among:
            if len(got) == num_wanted:
                break
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"{_NAME}{core}.{round_}")
            except OSError as error:
                claim.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._claims.append(claim)
                got.append(core)
        return got

    def release(self) -> None:
        """Others may have them."""
        for claim in self._claims:
            claim.close()

    def pin(self) -> None:
        """Keep every thread of this process, and what it starts from now on, on these cores."""
        for thread in _threads():
            try:
                os.sched_setaffinity(thread, self.numbers)
            except ProcessLookupError:  # it has ended meanwhile
                continue


def _threads() -> Iterator[int]:
    for path in _THREADS.iterdir():
        yield int(path.name)
