"""How often one key, or one client address, may ask: a token bucket each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MAX_BUCKETS = 10_000
"""Beyond this many the one used longest ago is forgotten, which gives its owner a full one."""


class RateLimit:
    """`rate` requests per second, 0 for any number; `burst` of them at once. `clock` gives monotonic seconds."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens that were left, and when; the one used last is last."""

    def take(self, name: str, rate: float | None = None) -> float:
        """Seconds until `name` may ask again; 0 if it may now, which is then counted. `rate`: its own."""
        rate = self._rate if rate is None else rate
        if not rate:
            return 0.0
        now = self._clock()
        tokens, then = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * rate)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / rate
        self._buckets[name] = (tokens if wait else tokens - 1.0, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return wait

    def charge(self, name: str, count: int, rate: float | None = None) -> None:
        """Count `count` more requests of `name`, which have been let in already: what was not left to it is owed, and
        `take` is the longer in letting it in again."""
        if count > 0 and (self._rate if rate is None else rate) and name in self._buckets:
            tokens, then = self._buckets[name]
            self._buckets[name] = (tokens - count, then)

    def __len__(self) -> int:
        return len(self._buckets)
