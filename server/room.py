"""The memory that models may take together: what each holds or is promised, and what is left. Front process.

    budget ─┬─ the front, and the libraries that workers share          measured
            ├─ models that serve: workers at their peak, and the slab   measured
            ├─ models that load                                         promised: remembered, or estimated
            └─ free, unless the machine has less left

Promises are made before anything is started, so that two loads at once cannot both count on the same memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool import Pool
from pool.memory import available_memory, memory_limit
from server import estimate
from server.footprint import Footprint, footprint
from server.table import Known

log = logging.getLogger(__name__)

MIB = 2**20
LOOK_INTERVAL = 30.0
SPARE_BYTES = 64 * MIB
"""Left to the machine beyond every promise."""


def default_budget() -> int:
    """Nine tenths of what the cgroup or the machine has: requests in flight and the kernel need some."""
    return memory_limit() * 9 // 10


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the room cannot know by itself."""

    forkservers: Callable[[], Mapping[tuple[str, ...], int]]
    """Process ids of those that run, by what they import."""
    preload: Callable[[Known], tuple[str, ...]]
    """What the workers of a model import before they are forked."""
    weights_path: Callable[[Known], Path | None]
    """Where a model's weights are or will be; None where that is not a plain path."""
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes: of each worker, of each slot; and the weights that they were or will be measured for."""

    worker: int
    slot: int
    weights: tuple[object, ...]

    def total(self, pool: Pool) -> int:
        """Of all workers and the slab of `pool`."""
        return self.worker * len(pool.replicas) + self.slot * pool.num_slots


@dataclass(slots=True)
class _Claim:
    """What one pool holds or is promised."""

    need: Need
    size: int
    used: int = 0
    is_measured: bool = False


class Room:
    """The account of one server."""

    def __init__(
        self, budget: int, around: Surroundings, available: Callable[[], int] = available_memory
    ) -> None:
        """`budget` in bytes; `available` tells what the machine has left."""
        self.budget = budget
        self._around = around
        self._get_available = available
        self._claims: dict[Pool, _Claim] = {}
        self._remembered: dict[tuple[object, ...], Need] = {}
        self._base = 0
        self._base_used = 0
        self._available = budget
        self._looked_at = 0.0

    def need(self, known: Known, pool: Pool) -> Need:
        """What `pool` of the model `known` will take: as it was measured for the same weights, else estimated."""
        entry, path = known.entry, self._around.weights_path(known)
        weights_bytes = estimate.weights_size(path)
        weights = (str(path or entry.weights), weights_bytes, entry.imgsz)
        if weights in self._remembered:
            return self._remembered[weights]
        sizes = (
            estimate.worker_size(entry, weights_bytes, self._around.max_batch_size, replica.placement.device)
            for replica in pool.replicas
        )
        worker = max(sizes)
        return Need(worker, 3 * estimate.input_side(entry) ** 2, weights)

    def extra(self, known: Known) -> int:
        """Bytes that a load takes beside the model's own need: of the forkserver where there is none with its imports
        yet, and of the process that converts the network, if there is one."""
        preload = self._around.preload(known)
        shared = 0 if preload in self._around.forkservers() else estimate.forkserver_size(preload)
        return shared + estimate.conversion_size(preload)

    def claim(self, pool: Pool, need: Need) -> None:
        """Promise `pool`, which is about to start, what it needs."""
        self._claims[pool] = _Claim(need, need.total(pool))

    def release(self, pool: Pool) -> None:
        """Its processes are gone."""
        self._claims.pop(pool, None)

    def size(self, pool: Pool) -> int:
        """Bytes that `pool` holds, or is promised; 0 if it has no claim."""
        claim = self._claims.get(pool)
        return claim.size if claim else 0

    @property
    def taken(self) -> int:
        """Bytes of the front, of what workers share, and of every claim, as of the last `look`."""
        return self._base + sum(claim.size for claim in self._claims.values())

    @property
    def free(self) -> int:
        """Bytes that may still be promised, as of the last `look`; negative where models grew."""
        used = self._base_used + sum(min(claim.size, claim.used) for claim in self._claims.values())
        on_machine = self._available - (self.taken - used) - SPARE_BYTES
        return min(self.budget - self.taken, on_machine)

    @property
    def is_due(self) -> bool:
        """Whether it is time to look: a model has come, or may have grown."""
        is_new = any(
            not claim.is_measured and all(replica.is_serving for replica in pool.replicas)
            for pool, claim in self._claims.items()
        )
        return is_new or (bool(self._claims) and time.monotonic() - self._looked_at > LOOK_INTERVAL)

    async def look(self) -> None:
        """Measure every process anew; some 20 ms for each, in a thread."""
        self._looked_at = time.monotonic()
        workers = {pool: [r.pid for r in pool.replicas if r.pid is not None] for pool in self._claims}
        # The first measure with all workers there replaces the promise. Later ones count where they are higher: a
        # worker that is being replaced will soon take as much as the one before.
        whole = {pool for pool in workers if all(replica.is_serving for replica in pool.replicas)}
        forkservers = self._around.forkservers()
        try:
            measured, front, shared, self._available = await asyncio.to_thread(
                self._measure, workers, list(forkservers.values())
            )
        except OSError as error:  # no descriptor left: what was measured last has to do
            log.warning("memory cannot be measured: %s", error.strerror)
            return
        libraries = sum(map(estimate.forkserver_size, forkservers))  # or while they are imported
        self._base, self._base_used = front + max(shared, libraries), front + shared
        for pool, prints in measured.items():
            if (claim := self._claims.get(pool)) is not None:
                self._update(pool, claim, prints, is_whole=pool in whole)

    def _measure(
        self, workers: Mapping[Pool, Sequence[int]], forkservers: Sequence[int]
    ) -> tuple[dict[Pool, list[Footprint]], int, int, int]:
        """Footprints of each pool's workers; bytes of the front, of what workers share, and left on the machine."""
        measured = {pool: [footprint(pid) for pid in pids] for pool, pids in workers.items()}
        shared = sum(each.fair - each.private for prints in measured.values() for each in prints)
        shared += sum(footprint(pid).fair for pid in forkservers)
        return measured, footprint(os.getpid()).fair, shared, self._get_available()

    def _update(self, pool: Pool, claim: _Claim, prints: Collection[Footprint], *, is_whole: bool) -> None:
        claim.used = sum(each.private for each in prints) + pool.slab_size
        if not is_whole or not prints:
            return
        worker = max(each.peak for each in prints)
        known = self._remembered.get(claim.need.weights)
        if known is not None:
            worker = max(worker, known.worker)
        if not claim.is_measured:
            log.info("memory measured", extra={"model_id": pool.name, "worker_bytes": worker})
        claim.is_measured = True
        claim.need = Need(worker, -(-pool.slab_size // pool.num_slots), claim.need.weights)
        claim.size = claim.need.total(pool)
        self._remembered[claim.need.weights] = claim.need
