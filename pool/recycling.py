"""Replaces workers that have grown too large or too old, one at a time. Front process."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pool.limits import Limits
from pool.memory import resident_memory
from pool.replica import Replica

log = logging.getLogger(__name__)

_WARM_BATCHES = 20
_JITTER = 0.2
CHECK_INTERVAL = 1.0


@dataclass(slots=True)
class _Life:
    """What is remembered of the worker at one position. `max_age` is in seconds, `baseline` in bytes."""

    pid: int
    since: float
    first_batch: int
    max_age: float
    baseline: int | None = None


class Recycler:
    """Looks at every worker once in a while and has those replaced that are due."""

    def __init__(
        self,
        limits: Limits,
        replicas: Callable[[], Sequence[Replica]],
        replace: Callable[[Replica, str], Coroutine[Any, Any, bool]],
    ) -> None:
        """`replace` returns when a fresh worker serves in the position, or False if there is none."""
        self._limits = limits
        self._replicas = replicas
        self._replace = replace
        self._lives: dict[int, _Life] = {}
        self._random = random.Random()
        self._not_before = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether any limit is set."""
        return self._limits.max_worker_growth > 0 or self._limits.max_worker_age > 0

    async def run(self) -> None:
        """For ever; to be cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            for replica in self._replicas():
                reason = self._why(replica)
                if reason is None or time.monotonic() < self._not_before:
                    continue
                log.info("replica %d: worker is due: %s", replica.index, reason)
                if not await self._replace(replica, reason):
                    self._not_before = time.monotonic() + 60 * CHECK_INTERVAL
                break  # the replicas are others now

    def _why(self, replica: Replica) -> str | None:
        """Why the worker in this position is to be replaced; None if it is not."""
        if replica.pid is None or not replica.is_serving:
            return None
        life = self._lives.get(replica.index)
        if life is None or life.pid != replica.pid:
            jitter = self._random.uniform(1 - _JITTER, 1 + _JITTER)  # not all at once
            life = _Life(
                replica.pid, time.monotonic(), replica.num_batches, self._limits.max_worker_age * jitter
            )
            self._lives[replica.index] = life
        if 0 < life.max_age < time.monotonic() - life.since:
            return "old"
        if not self._limits.max_worker_growth or replica.num_batches - life.first_batch < _WARM_BATCHES:
            return None
        resident = resident_memory(replica.pid)
        if life.baseline is None:
            life.baseline = resident
        return "grown" if resident > life.baseline + self._limits.max_worker_growth else None
