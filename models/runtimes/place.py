"""Where a network runs. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A device and what of it may be used: `num_threads` of the CPU None for the runtime's own number."""

    device: str
    max_batch_size: int
    num_threads: int | None = None
    num_cores: int = 0
    """On the CPU, threads that a batch may use which has the machine to itself."""
    all_cores: Sequence[int] = ()
    """On which cores these run; empty: wherever the kernel puts them."""
