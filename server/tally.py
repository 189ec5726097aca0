"""What pools have counted, added up over those that are gone: a counter that a scraper sees never goes back.

Front process, event loop only. Pools keep their own counters; they are read while a pool lives and kept at its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

from pool import Pool

LoadOutcome = Literal["ready", "failed", "given_up"]


class Tally:
    """Counters by model, and how loads, unloads and reloads ended: by model and outcome (or reason)."""

    def __init__(self) -> None:
        self.loads: Counter[tuple[str, str]] = Counter()
        """``ready``, ``failed``, ``given_up`` (ended before it served), ``refused`` (not begun: no room)."""
        self.unloads: Counter[tuple[str, str]] = Counter()
        """``asked`` by an operator, or for ``room``."""
        self.reloads: Counter[tuple[str, str]] = Counter()
        """``ready``, ``failed``, ``given_up``."""
        self._pools: set[Pool] = set()
        self._loading: set[Pool] = set()
        self._ended: dict[str, Counter[str]] = {}
        self._ended_sizes: dict[str, Counter[int]] = {}

    @property
    def pools(self) -> Collection[Pool]:
        """Those that have processes: serving, coming, or finishing what they have; by name."""
        return sorted(self._pools, key=lambda pool: pool.name)

    def begin(self, pool: Pool) -> None:
        """It is about to start."""
        self._pools.add(pool)

    def await_load(self, pool: Pool) -> None:
        """It is a load of its own, not the second pool of a reload: how it ends will be counted."""
        self._loading.add(pool)

    def settle_load(self, pool: Pool, outcome: LoadOutcome) -> None:
        """How its load ended; only the first word counts."""
        if pool in self._loading:
            self._loading.discard(pool)
            self.loads[pool.name, outcome] += 1

    def look(self) -> None:
        """Count the loads that have ended well by now; nobody else may have looked since."""
        for pool in [pool for pool in self._loading if pool.is_ready]:
            self.settle_load(pool, "ready")

    def end(self, pool: Pool) -> None:
        """Its processes are gone; what it has counted is kept. Safe to call twice."""
        if pool in self._pools:
            self._pools.discard(pool)
            self._ended.setdefault(pool.name, Counter()).update(pool.counters)
            self._ended_sizes.setdefault(pool.name, Counter()).update(pool.batch_sizes)

    def counters(self) -> Mapping[str, Counter[str]]:
        """By model, since the server's start: what `Pool.counters` has, of every pool that there was."""
        sums = {name: Counter(counted) for name, counted in self._ended.items()}
        for pool in self.pools:
            sums.setdefault(pool.name, Counter()).update(pool.counters)
        return sums

    def batch_sizes(self) -> Mapping[str, Counter[int]]:
        """By model, since the server's start: batches done by how many entries they had."""
        sums = {name: Counter(counted) for name, counted in self._ended_sizes.items()}
        for pool in self.pools:
            sums.setdefault(pool.name, Counter()).update(pool.batch_sizes)
        return sums
