"""How many cores there are to plan with, and which to pin to. Read from the kernel, in the front process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True)
class CoreBudget:
    """`numbers` are those of the cores; empty where only their count is known, and nobody is pinned."""

    num_cores: int
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """These cores."""
        cores = tuple(numbers)
        return cls(len(cores), cores)


def usable_cores(cpu_max: Path = CPU_MAX) -> CoreBudget:
    """What this process may use: its affinity, or the cgroup's CPU quota (rounded up, at least 1) where that is less.

    Under a quota the kernel throttles whoever uses more cores than it pays for, which costs more than it gives. But a
    quota names no cores: two containers that each took the first ones would share these while the others rest, so the
    kernel is left to spread them.
    """
    cores = CoreBudget.of(sorted(os.sched_getaffinity(0)))
    try:
        quota, period = cpu_max.read_text().split()
    except OSError:
        return cores
    if quota == "max" or (paid := max(1, math.ceil(int(quota) / int(period)))) >= cores.num_cores:
        return cores
    return CoreBudget(paid)
