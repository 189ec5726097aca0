"""Bytes as people read them."""

from __future__ import annotations

MIB = 2**20
GIB = 2**30


def readable(size: int) -> str:
    """``1.5 GiB``, ``11 MiB``, ``5 kB``."""
    if size >= GIB:
        return f"{size / GIB:.1f} GiB"
    return f"{size / MIB:.0f} MiB" if size >= MIB else f"{size / 1000:.0f} kB"
