"""The pool of one served model: its life, admission, and an entry's way from lease to result. Front process.

The file is longer than its neighbours so that everything that happens to an entry can be read in one place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pool.assignment import Assignment
from pool.batching import Entry, Result
from pool.breaker import Breaker
from pool.canary import paint
from pool.death import Death
from pool.errors import (
    CrashLoopError,
    DeadlineExceededError,
    EntryFailedError,
    LoadFailedError,
    ModelLoadingError,
    PoolStoppedError,
    QueueFullError,
)
from pool.launcher import Launcher
from pool.limits import Limits
from pool.oversight import Oversight
from pool.placement import Placement
from pool.progress_log import ProgressLog
from pool.protocol import Fatal, ProtocolError, Ready
from pool.quarantine import Quarantine, content_key
from pool.recycling import Recycler
from pool.replay import Judge
from pool.replica import Replica, RunningBatch, State
from pool.slab import Lease, Slab
from pool.supervisor import Listener, Recipe, Supervisor

log = logging.getLogger(__name__)

_LOAD_FAILURES = {"load_failed", "device_lost", "not_enough_memory"}
"""Deaths that have a limit and pauses of their own."""


class Pool:
    """Replicas, queue and slab of one model."""

    def __init__(
        self,
        name: str,
        factory: str,
        config: Mapping[str, Any],
        placements: Sequence[Placement],
        launcher: Launcher,
        limits: Limits | None = None,
    ) -> None:
        """`factory` is ``package.module:function``, see `pool.model.Factory`. Nothing starts before `start`."""
        self.name = name
        self.counters: Counter[str] = Counter()
        """Events since the start, for metrics: ``batches``, ``replays``, ``deaths_<reason>``, ``poison``."""
        self.batch_sizes: Counter[int] = Counter()
        """Batches done, by how many entries they had."""
        self._limits = limits = limits or Limits()
        self._assignment = Assignment(name, limits)
        self._queue = self._assignment.queue
        self._judge = Judge()
        self._quarantine = Quarantine(limits.quarantine_time)
        self._oversight = Oversight(Breaker(limits))
        self._slab: Slab | None = None
        self._slab_lock = asyncio.Lock()
        self._spec: Mapping[str, Any] | None = None
        self._progress: Mapping[str, Any] | None = None
        self._progress_log = ProgressLog(name)
        self._error: LoadFailedError | None = None
        self._is_stopping = False
        self._changed = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], Supervisor] = {}
        """Of all replicas, also one that is about to take a position or has left it."""
        self._launcher = launcher
        self._recipe = Recipe(factory, config, limits)
        self._listener = Listener(
            self._on_ready,
            self._on_done,
            self._on_death,
            self._on_load_failed,
            lambda: self.is_ready,
            self._on_able,
            self._on_progress,
        )
        self._supervisors = [self._make_supervisor(i, placement) for i, placement in enumerate(placements)]
        self._assignment.supervisors = self._supervisors
        self._recycler = Recycler(limits, lambda: self.replicas, self._replace)
        self._recycling: asyncio.Task[None] | None = None

    def _make_supervisor(self, index: int, placement: Placement) -> Supervisor:
        replica = Replica(index, placement, self._limits.max_in_flight, self._notify)
        return Supervisor(replica, self._launcher, self._recipe, self._listener, self._oversight)

    # What it looks like from outside

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """What the model's first worker said of itself; None before."""
        return self._spec

    @property
    def replicas(self) -> Sequence[Replica]:
        """One per position, in order."""
        return [supervisor.replica for supervisor in self._supervisors]

    @property
    def is_ready(self) -> bool:
        """At least one replica can be given a batch (now, or when it is done with the one it has)."""
        return not self._is_stopping and any(r.is_serving for r in self.replicas)

    @property
    def is_idle(self) -> bool:
        """Nothing waits, nothing runs, no slot is held."""
        return not self._has_work and self._num_held == 0

    @property
    def _num_held(self) -> int:
        """Slots that a caller or an entry holds; the canary's is nobody's."""
        if self._slab is None:
            return 0
        return self._slab.num_slots - self._slab.num_free - (self._oversight.canary is not None)

    @property
    def num_slots(self) -> int:
        """How many slots its slab has, or will have."""
        limits = self._limits
        num_running = len(self.replicas) * limits.max_in_flight * limits.max_batch_size
        return limits.max_queue_size + num_running + limits.num_extra_slots

    @property
    def slab_size(self) -> int:
        """Bytes of shared memory; 0 while there is none."""
        return self._slab.size if self._slab is not None else 0

    @property
    def _has_work(self) -> bool:
        return bool(self._queue) or self._num_running > 0

    @property
    def _num_running(self) -> int:
        return sum(len(b.entries) for s in self._tasks.values() for b in s.replica.in_flight)

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``crash_looping``, ``failed``, ``draining`` or ``stopped``."""
        if all(r.state is State.STOPPED for r in self.replicas):
            return "stopped" if self._is_stopping or self._error is None else "failed"
        if self._is_stopping:
            return "draining"
        if self.is_ready:
            return "ready"
        return "crash_looping" if self._oversight.breaker.is_open else "loading"

    def snapshot(self) -> dict[str, Any]:
        """Everything an operator may want to see, as JSON types."""
        slab = self._slab
        return {
            "name": self.name,
            "state": self.state,
            "queue_length": len(self._queue),
            "in_flight": self._num_running,
            "slots": {"total": self.num_slots if slab else 0, "free": slab.num_free if slab else 0},
            "replicas": [r.describe() for r in self.replicas],
            "progress": dict(self._progress) if self._progress else None,
            "error": {"code": self._error.code, "reason": self._error.reason} if self._error else None,
            "counters": dict(self.counters),
        }

    def __repr__(self) -> str:
        busy = sum(r.state is State.BUSY for r in self.replicas)
        return f"<Pool {self.name} {self.state} {busy}/{len(self.replicas)} busy queue={len(self._queue)}>"

    # Start and stop

    async def start(self) -> None:
        """Begin to start the workers; returns at once. `wait_ready` waits for the first."""
        for supervisor in self._supervisors:
            self._run(supervisor)
        if self._recycler.is_wanted:
            self._recycling = asyncio.create_task(self._recycler.run(), name=f"{self.name}-recycler")

    def _run(self, supervisor: Supervisor) -> asyncio.Task[None]:
        task = asyncio.create_task(supervisor.run(), name=f"{self.name}-{supervisor.replica.index}")
        task.add_done_callback(self._on_supervisor_end)
        self._tasks[task] = supervisor
        return task

    def _on_supervisor_end(self, task: asyncio.Task[None]) -> None:
        """A supervisor's exception is a bug of ours: say so loudly instead of serving on with a hole."""
        replica = self._tasks.pop(task).replica
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("supervisor of %s failed", self.name, exc_info=error)
            self._error = LoadFailedError("internal", "a supervisor failed")
            if replica.state is State.DEAD:  # nobody is left to start another worker
                replica.become(State.STOPPED)
        if self._error is not None and self.state == "failed":
            self._fail_queued(self._error)
        self._notify()

    async def wait_ready(self, deadline: float) -> None:
        """Wait until a replica serves.

        Raises LoadFailedError as soon as a load failed and no other is under way, ModelLoadingError at `deadline`
        (a `time.monotonic` moment), CrashLoopError, PoolStoppedError.
        """
        while not self.is_ready:
            if self._is_stopping:
                raise PoolStoppedError(f"{self.name} is stopping")
            self._check_breaker()
            if self._error is not None and not any(r.state is State.STARTING for r in self.replicas):
                raise self._error
            changed = self._changed
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await changed.wait()
            except TimeoutError:
                raise ModelLoadingError() from None

    def _notify(self) -> None:
        """Wake everybody who waits for a state; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def stop(self, drain_timeout: float = 25.0) -> None:
        """Take nothing more, finish what there is within `drain_timeout` seconds, end the workers.

        Entries not answered by then get PoolStoppedError. Safe to call twice.
        """
        self._is_stopping = True
        self._notify()
        if self._recycling is not None:
            self._recycling.cancel()
            await asyncio.wait([self._recycling])
        deadline = time.monotonic() + drain_timeout
        while self._has_work and self._tasks:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                break
        self._fail_queued(PoolStoppedError(f"{self.name} is stopping"))
        for supervisor in self._tasks.values():
            supervisor.stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        # and what came back from a worker that died while it drained
        self._fail_queued(PoolStoppedError(f"{self.name} is stopping"))
        if self._slab is not None:
            self._oversight.canary = None
            descriptor, self._slab = self._slab.detach(), None  # who keeps the pool does not keep the memory
            await asyncio.to_thread(os.close, descriptor)

    def _fail_queued(self, error: Exception) -> None:
        for entry in list(self._queue):
            self._queue.remove(entry)
            entry.settle(error)

    async def _replace(self, old: Replica, reason: str) -> bool:
        """Start a second worker for the position, switch to it when it serves, then let the old one finish.

        False if the new one cannot be had.
        """
        unwanted = spare = self._make_supervisor(old.index, old.placement)
        task = self._run(spare)
        try:
            while not spare.replica.is_serving and not task.done() and spare.replica.num_deaths == 0:
                await self._changed.wait()
            if not spare.replica.is_serving:
                log.warning("%s: no replacement for replica %d", self.name, old.index)
                return False
            unwanted, self._supervisors[old.index] = self._supervisors[old.index], spare
            self._assignment.forget(old)
            self._assignment.assign()
            self.counters[f"recycled_{reason}"] += 1
            return True
        finally:
            unwanted.retire()

    # One request

    async def lease(self, deadline: float) -> Lease:
        """Wait for the model if it is still loading (holding nothing), then take a slot.

        Raises QueueFullError, and what `wait_ready` raises.
        """
        if self._slab is None:
            await self.wait_ready(deadline)
        self.check_admission(deadline)
        assert self._slab is not None
        try:
            return self._slab.lease()
        except QueueFullError:
            raise QueueFullError(self.estimated_wait()) from None

    def check_admission(self, deadline: float) -> None:
        """Refuse before anything is spent on a request that cannot be answered in time.

        Raises PoolStoppedError, QueueFullError, CrashLoopError.
        """
        if self._is_stopping:
            raise PoolStoppedError(f"{self.name} is stopping")
        self._check_breaker()
        if self._error is not None and self.state == "failed":
            raise self._error
        wait = self.estimated_wait()
        is_full = len(self._queue) >= self._limits.max_queue_size or (self._slab and not self._slab.num_free)
        if is_full or wait > deadline - time.monotonic():
            raise QueueFullError(wait)

    def _check_breaker(self) -> None:
        """Raises CrashLoopError while no worker lives long enough to do anything."""
        wait = self._oversight.breaker.retry_after(time.monotonic())
        if wait > 0 and not self.is_ready:
            raise CrashLoopError(wait)

    def estimated_wait(self) -> float:
        """Seconds until an entry that comes now would have its answer, at the rate measured so far."""
        return self._assignment.estimated_wait()

    def learn_rate(self, other: Pool) -> None:
        """Begin with the rate of another pool of the same model: a first batch alone may be slow, and be believed."""
        self._assignment.learn_rate(other._assignment)

    async def infer(
        self,
        lease: Lease,
        params: Mapping[str, Any],
        deadline: float,
        batch_key: str = "",
        cost: int = 1,
        affinity: str = "",
    ) -> Result:
        """Have the picture in `lease` answered; the lease is the pool's from here on.

        `params` go to the model; entries with different `batch_key` never share a batch; `cost` is in rows. The
        replica that last ran an entry of the same `affinity` is preferred, and waited for at most one batch time.
        Survives the death of workers. Raises ValueError or TypeError, and leaves the lease with the caller, for
        `params` that are not JSON (NaN included) or a cost below 1; and DeadlineExceededError, EntryFailedError,
        PoolStoppedError, LoadFailedError. When the caller is cancelled, a waiting entry is dropped at once; the slot
        of a running one is free when its worker is done with it.
        """
        if cost < 1:  # it would never fill a batch
            raise ValueError(f"cost is counted from 1, not {cost}")
        params = dict(params)
        # fails this caller; when a batch is sent, or an entry condemned, it would fail others
        json.dumps(params, allow_nan=False, sort_keys=True)
        await self._check_quarantine(lease, params)
        lease.take()
        entry = Entry(
            lease, params, deadline, asyncio.get_running_loop().create_future(), batch_key, cost, affinity,
            returns_lease=self._limits.writes_slots,
        )  # fmt: skip
        if self._is_stopping or self.state == "failed":
            entry.settle(self._error or PoolStoppedError(f"{self.name} is stopping"))
        else:
            self._queue.append(entry)
            self._assignment.assign()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await entry.future
        except TimeoutError:
            raise DeadlineExceededError(f"no answer from {self.name} in time") from None
        finally:
            if self._queue.remove(entry):  # cancelled or late while waiting: no worker has it
                entry.settle(DeadlineExceededError())
                self._notify()

    async def _check_quarantine(self, lease: Lease, params: Mapping[str, Any]) -> None:
        """Raises EntryFailedError for what has killed workers lately. Costs nothing while nothing has."""
        if not self._quarantine.is_empty(time.monotonic()):
            key = await asyncio.to_thread(content_key, lease.content, params)
            if self._quarantine.holds(key, time.monotonic()):
                self.counters["quarantined"] += 1
                raise EntryFailedError("image_unprocessable", "it has killed its workers before")

    # What supervisors tell

    async def _on_ready(self, ready: Ready) -> Slab:
        async with self._slab_lock:  # the first two replicas may come at once
            if self._slab is None:
                # in a thread: the kernel clears every page, 0.1 s and more in which nobody else would be served
                kept = self._limits.kept_slot_bytes
                made = await asyncio.to_thread(_make_slab, self.num_slots, ready.slot_shape, kept)
                self._slab, self._oversight.canary = made
        if self._slab.slot_shape != tuple(ready.slot_shape):
            raise ProtocolError(
                f"slot shape {ready.slot_shape} differs from {self._slab.slot_shape} of the pool"
            )
        if self._spec is None:
            self._spec = ready.spec
        return self._slab

    def _on_able(self) -> None:
        self._error = None
        self._progress = None
        self._assignment.assign()
        self._notify()

    def _on_progress(self, fields: Mapping[str, Any]) -> None:
        self._progress = fields
        self._progress_log.note(fields)

    def _on_done(self, replica: Replica, batch: RunningBatch) -> None:
        self.counters["batches"] += 1
        self.batch_sizes[len(batch.entries)] += 1
        self._assignment.observe(replica, batch)
        self._assignment.assign()
        self._notify()

    def _on_load_failed(self, fatal: Fatal) -> None:
        self._error = LoadFailedError(fatal.code, fatal.reason)
        log.error("%s cannot be loaded: %s", self.name, self._error)

    def _on_death(self, replica: Replica, death: Death) -> None:
        """Nobody fails because a worker died: what it had runs again, at the head of the queue and alone."""
        self.counters[f"deaths_{death.reason.partition(':')[0]}"] += 1
        now = time.monotonic()
        self._assignment.forget(replica)
        verdict = self._judge.judge(death)
        breaker = self._oversight.breaker
        is_explained = bool(verdict.condemned) or death.reason in _LOAD_FAILURES
        if not death.has_progressed and (breaker.is_open or not is_explained):
            breaker.failed(replica.index, now, is_forkservers=death.is_forkservers)
        self.counters["replays"] += len(verdict.replays)
        self._queue.put_back(verdict.replays)
        for entry in verdict.condemned:
            self._condemn(entry, now)
        for entry in verdict.replays:
            self._drop_if_quarantined(entry, now)
        self._assignment.assign()
        self._notify()

    def _condemn(self, entry: Entry, now: float) -> None:
        """Fail it, hold it for a while, and fail whoever waits with the same: it would kill as many workers again."""
        self._quarantine.add(content_key(entry.lease.content, entry.params), now)
        self.counters["poison"] += 1
        error = EntryFailedError("image_unprocessable", f"its workers died: {', '.join(entry.deaths)}")
        for twin in [other for other in self._queue if other.is_twin_of(entry)]:
            self._queue.remove(twin)
            self.counters["quarantined"] += 1
            twin.settle(error)
        entry.settle(error)

    def _drop_if_quarantined(self, entry: Entry, now: float) -> None:
        """A suspect that was running when its like was condemned."""
        if self._quarantine.is_empty(now) or not self._quarantine.holds(
            content_key(entry.lease.content, entry.params), now
        ):
            return
        if self._queue.remove(entry):
            self.counters["quarantined"] += 1
            entry.settle(EntryFailedError("image_unprocessable", "it has killed its workers before"))


def _make_slab(num_slots: int, slot_shape: Sequence[int], kept_slot_bytes: int) -> tuple[Slab, Lease]:
    """A slab with `num_slots` slots for requests, and the lease of one more that holds the canary."""
    slab = Slab(num_slots + 1, slot_shape, kept_bytes=kept_slot_bytes or None)
    canary = slab.lease()
    if not slab.is_sparse:  # there it stays black: a picture would need its memory for ever
        paint(canary.pixels)
    return slab, canary
