"""Processor time: of this process, of others, of the whole machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """Seconds that the cores of the machine have been busy since it started, summed."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupt, soft_interrupt, _stolen = fields
    return (user + nice + system + interrupt + soft_interrupt) / _TICKS


def process_seconds(pid: int) -> float:
    """Of one process, all its threads. Raises FileNotFoundError when it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Stopwatch:
    """Processor time since it was made."""

    def __init__(self) -> None:
        self._own, self._machine = time.process_time(), machine_seconds()

    def read(self) -> dict[str, float]:
        """Seconds of the generator (this process), of the whole machine, and the first as a share of the second."""
        own, machine = time.process_time() - self._own, machine_seconds() - self._machine
        return {
            "generator_seconds": own,
            "machine_seconds": machine,
            "generator_share": own / max(machine, own, 1e-9),
        }
