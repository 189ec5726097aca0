"""How much memory this process may still take: the cgroup's word first, then the machine's. Front process."""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def available_memory(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that can still be allocated before the kernel starts to kill.

    The smaller of the cgroup's `memory.max` minus what it uses (page cache that can be dropped not counted)
    and `MemAvailable`. Raises OSError where /proc is missing.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    available = int(fields["MemAvailable"].split()[0]) * 1024
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


def memory_limit(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> int:
    """Bytes that there are in all: the cgroup's `memory.max` or the machine's `MemTotal`, whichever is smaller.

    Raises OSError where /proc is missing.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    total = int(fields["MemTotal"].split()[0]) * 1024
    try:
        limit = (cgroup / "memory.max").read_text().strip()
    except FileNotFoundError:
        return total
    return total if limit == "max" else min(total, int(limit))
