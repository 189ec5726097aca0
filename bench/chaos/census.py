"""What a server holds at a moment: slots, descriptors, processes, tasks, memory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.serving import RunningServer

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Census:
    """Equal before and after, or something has leaked. `num_tasks` is None where the server does not tell."""

    slots_held: int
    slots_total: int
    num_descriptors: int
    num_processes: int
    num_tasks: int | None
    body_bytes: int | None

    def difference(self, other: Census) -> dict[str, Any]:
        """What differs, before and after."""
        ours, theirs = asdict(self), asdict(other)
        return {name: [ours[name], theirs[name]] for name in ours if ours[name] != theirs[name]}


def take(server: RunningServer, models: Sequence[str]) -> Census:
    """Count now, over a connection that is closed again before descriptors are counted."""
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        slots = [client.get(f"/models/{model}").json()["slots"] for model in models]
        inside = client.get("/chaos")
    held = json.loads(inside.text) if inside.status_code == 200 else {}
    return Census(
        sum(slot["total"] - slot["free"] for slot in slots),
        sum(slot["total"] for slot in slots),
        len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())),
        len(descendants(server.process.pid)),
        held.get("num_tasks"),
        held.get("body_bytes"),
    )


def settled(server: RunningServer, models: Sequence[str], before: Census, timeout: float = 20.0) -> Census:
    """Count until it is as `before` or `timeout` has passed: replicas may be starting, connections closing."""
    deadline = time.monotonic() + timeout
    while (now := take(server, models)) != before and time.monotonic() < deadline:
        time.sleep(0.1)
    return now


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, zombies as well."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(fields[1])
    family, found = [], [pid]
    while found:
        found = [child for child, parent in parents.items() if parent in found]
        family += found
    return family


def resident_bytes(pid: int) -> int:
    """Resident memory without pages of files."""
    _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE


def cpu_seconds(pid: int) -> float:
    """Processor time of `pid` and of its children that have ended and were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return float(sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK"))
