"""On which cores this thread runs, and the threads that it starts. Runs in a worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def on(numbers: Sequence[int]) -> Iterator[None]:
    """Inside, this thread may run on these cores; afterwards where it might before. On none of them, or on cores that
    went offline or are forbidden, nothing changes."""
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):
        if numbers:
            os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
