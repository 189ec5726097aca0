"""What one process takes of memory, as the kernel counts it. Front process; 20 ms for a large one, so in a thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes, without shared memory segments: those are slabs, which have one owner and are counted there.

    `fair` shares each page out among the processes that map it (PSS), so that fairs may be added up.
    `private` is what ends with the process (USS); `peak` the most that this may have been: while it loaded, or
    while it ran its largest batch.
    """

    fair: int = 0
    private: int = 0
    peak: int = 0


def footprint(pid: int, proc: Path = PROC) -> Footprint:
    """Zeros for a process that is gone. Where the kernel does not tell shares, its anonymous pages are taken."""
    try:
        status = _fields(proc / str(pid) / "status")
    except (FileNotFoundError, ProcessLookupError):
        return Footprint()
    excess = max(0, status.get("VmHWM", 0) - status.get("VmRSS", 0))
    try:
        rollup = _fields(proc / str(pid) / "smaps_rollup")
    except OSError:  # gone meanwhile, not ours to read, or a kernel without it
        rollup = {}
    if "Pss" not in rollup:
        anonymous = status.get("RssAnon", 0)
        return Footprint(anonymous, anonymous, anonymous + excess)
    private = rollup["Private_Clean"] + rollup["Private_Dirty"]  # a slab is mapped by the front too
    return Footprint(rollup["Pss"] - rollup.get("Pss_Shmem", 0), private, private + excess)


def _fields(path: Path) -> dict[str, int]:
    """The sizes in a file of /proc, in bytes. Raises OSError."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0][:-1]: int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}
