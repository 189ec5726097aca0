"""How long to wait before the next try. Pure, the clock is the caller's. Front process."""

from __future__ import annotations

import random

_FIRST = 0.25
_MAX = 30.0
_JITTER = 0.2


class Backoff:
    """0, 0.25, 0.5, 1, 2 ... 30 seconds, each ± 20 %: counts failures since the last progress.

    The first death after progress costs no wait at all; jitter keeps replicas from starting in step.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self.num_failures = 0

    def failed(self) -> None:
        """One more failure without progress in between."""
        self.num_failures += 1

    def progressed(self) -> None:
        """Something useful was done: the count starts again."""
        self.num_failures = 0

    def delay(self, is_load: bool = False) -> float:
        """Seconds to wait before the next try. After a failed load never 0: it would most likely fail again."""
        if self.num_failures <= 1 and not is_load:
            return 0.0
        seconds: float = min(_FIRST * 2.0 ** min(max(self.num_failures - 2, 0), 20), _MAX)
        return seconds * self._random.uniform(1 - _JITTER, 1 + _JITTER)
