"""How much memory this process may still take: the cgroup's word first, then the machine's. Front process."""

from __future__ import annotations

import resource
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_memory(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that can still be allocated before the kernel starts to kill.

    The smaller of the cgroup's `memory.max` minus what it uses (page cache that can be dropped not counted)
    and `MemAvailable`. Raises OSError where /proc is missing.
    """
    available = _meminfo(meminfo, "MemAvailable")
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        if limit != "max":
            used = int((cgroup / "memory.current").read_text())
            stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
            used -= int(stat.get("inactive_file", 0))
            available = min(available, int(limit) - used)
    except FileNotFoundError:  # no cgroup v2 here: the machine's figure is all there is
        pass
    return max(available, 0)


def num_oom_kills(cgroup: Path = CGROUP) -> int:
    """How often the kernel has killed in this cgroup for lack of memory; 0 where it does not say."""
    try:
        events = dict(line.split() for line in (cgroup / "memory.events").read_text().splitlines())
    except OSError:
        return 0
    return int(events.get("oom_kill", 0))


def resident_memory(pid: int) -> int:
    """Bytes of `pid` in memory that are its own: what it shares with others is not counted. 0 if it is gone."""
    try:
        pages, shared = map(int, Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    except OSError:
        return 0
    return (pages - shared) * resource.getpagesize()


def memory_limit(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that there are in all: the cgroup's `memory.max` or the machine's `MemTotal`, whichever is smaller.

    Raises OSError where /proc is missing.
    """
    total = _meminfo(meminfo, "MemTotal")
    try:
        limit = (cgroup / "memory.max").read_text().strip()
    except FileNotFoundError:
        return total
    return total if limit == "max" else min(total, int(limit))


def _meminfo(path: Path, name: str) -> int:
    """Bytes that the kernel gives under `name`."""
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024
