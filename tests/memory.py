"""What a server and everything below it take of memory, measured from outside as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

MIB = 2**20


def tree(pid: int) -> list[int]:
    """Process ids of `pid` and of all its descendants."""
    found, waiting = [], [pid]
    while waiting:
        found.append(pid := waiting.pop())
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return found


def memory_of(pid: int) -> int:
    """Bytes of the whole tree: shared pages once, and of each slab all that is allocated, touched or not."""
    return sum(_size(each, "Pss") - _size(each, "Pss_Shmem") for each in tree(pid)) + _slabs(pid)


def own_memory_of(pid: int) -> int:
    """The same without pages of files: how many of those count here depends on who else has mapped the libraries."""
    return sum(_size(each, "Pss_Anon") for each in tree(pid)) + _slabs(pid)


def _size(pid: int, name: str) -> int:
    try:
        words = Path(f"/proc/{pid}/smaps_rollup").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return 0
    return int(words[words.index(f"{name}:") + 1]) * 1024 if f"{name}:" in words else 0


def _slabs(pid: int) -> int:
    blocks = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "memfd:slab" in str(descriptor.readlink()):
                status = descriptor.stat()
                blocks[status.st_ino] = status.st_blocks * 512
        except FileNotFoundError:  # closed meanwhile
            continue
    return sum(blocks.values())
