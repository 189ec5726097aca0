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
_THREADS = Path("/proc/self/task")


class Cores:
    """Cores that are this process's own until `release`, or its end."""

    def __init__(self, num_wanted: float, among: Sequence[int]) -> None:
        """`num_wanted` is rounded up. Where fewer are free than were promised, the rest is shared with others."""
        self._claims: list[socket.socket] = []
        wanted = min(max(1, math.ceil(num_wanted)), len(among))
        own = self._claim(among, wanted)
        shared = [core for core in reversed(among) if core not in own][: wanted - len(own)]
        self.numbers = tuple(sorted([*own, *shared]))
        self.num_shared = len(shared)
        """How many of them other engines may have as well."""

    def _claim(self, among: Sequence[int], num_wanted: int) -> list[int]:
        own: list[int] = []
        for core in among:
            if len(own) == num_wanted:
                break
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(_NAME + str(core))
            except OSError as error:
                claim.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                self._claims.append(claim)
                own.append(core)
        return own

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
