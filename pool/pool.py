"""The pool of one served model: admission, the queue, assignment, replay. Front process.

All decisions about who runs what are taken in `_assign_batches_to_replicas`, which is synchronous: between its
first and its last line nothing else can happen, so there is no state to lock. The file is longer than its
neighbours so that everything that happens to an entry can be read in one place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pool.affinity import Affinity
from pool.batching import Entry, RequestQueue, Result
from pool.death import Death
from pool.errors import (
    DeadlineExceededError,
    LoadFailedError,
    ModelLoadingError,
    PoolStoppedError,
    QueueFullError,
)
from pool.launcher import Launcher
from pool.limits import Limits
from pool.placement import Placement
from pool.progress_log import ProgressLog
from pool.protocol import Fatal, ProtocolError, Ready
from pool.rate import DrainRate
from pool.replay import judge
from pool.replica import Replica, RunningBatch, State
from pool.slab import Lease, Slab
from pool.supervisor import Listener, Recipe, Supervisor

log = logging.getLogger(__name__)


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
        self._limits = limits = limits or Limits()
        self._queue = RequestQueue()
        self._rate = DrainRate()
        self._affinity = Affinity()
        self._slab: Slab | None = None
        self._slab_lock = asyncio.Lock()
        self._spec: Mapping[str, Any] | None = None
        self._progress: Mapping[str, Any] | None = None
        self._progress_log = ProgressLog(name)
        self._error: LoadFailedError | None = None
        self._is_stopping = False
        self._changed = asyncio.Event()
        self._delay_timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        recipe = Recipe(factory, config, limits)
        listener = Listener(
            self._on_ready, self._on_done, self._on_death, self._on_load_failed, self._on_progress
        )
        self._supervisors = [
            Supervisor(Replica(i, placement, limits.max_in_flight, self._notify), launcher, recipe, listener)
            for i, placement in enumerate(placements)
        ]
        self.replicas: tuple[Replica, ...] = tuple(s.replica for s in self._supervisors)

    # What it looks like from outside

    @property
    def spec(self) -> Mapping[str, Any] | None:
        """What the model's first worker said of itself; None before."""
        return self._spec

    @property
    def is_ready(self) -> bool:
        """At least one replica can be given a batch (now, or when it is done with the one it has)."""
        return not self._is_stopping and any(r.is_serving for r in self.replicas)

    @property
    def is_idle(self) -> bool:
        """Nothing waits, nothing runs, no slot is held."""
        return not self._has_work and (self._slab is None or self._slab.num_free == self._slab.num_slots)

    @property
    def _has_work(self) -> bool:
        return bool(self._queue) or any(r.in_flight for r in self.replicas)

    @property
    def state(self) -> str:
        """``loading``, ``ready``, ``failed``, ``draining`` or ``stopped``."""
        if all(r.state is State.STOPPED for r in self.replicas):
            return "stopped" if self._is_stopping or self._error is None else "failed"
        if self._is_stopping:
            return "draining"
        return "ready" if self.is_ready else "loading"

    def snapshot(self) -> dict[str, Any]:
        """Everything an operator may want to see, as JSON types."""
        slab = self._slab
        return {
            "name": self.name,
            "state": self.state,
            "queue_length": len(self._queue),
            "in_flight": sum(len(b.entries) for r in self.replicas for b in r.in_flight),
            "slots": {"total": slab.num_slots if slab else 0, "free": slab.num_free if slab else 0},
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
            task = asyncio.create_task(supervisor.run(), name=f"{self.name}-{supervisor.replica.index}")
            task.add_done_callback(self._on_supervisor_end)
            self._tasks.append(task)

    def _on_supervisor_end(self, task: asyncio.Task[None]) -> None:
        """A supervisor's exception is a bug of ours: say so loudly instead of serving on with a hole."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("supervisor of %s failed", self.name, exc_info=error)
            self._error = LoadFailedError("internal", "a supervisor failed")
        if self._error is not None and self.state == "failed":
            self._fail_queued(self._error)
        self._notify()

    async def wait_ready(self, deadline: float) -> None:
        """Wait until a replica serves.

        Raises LoadFailedError as soon as a load failed and no other is under way, ModelLoadingError at `deadline`
        (a `time.monotonic` moment), PoolStoppedError.
        """
        while not self.is_ready:
            if self._is_stopping:
                raise PoolStoppedError(f"{self.name} is stopping")
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
        deadline = time.monotonic() + drain_timeout
        while self._has_work and any(r.state is not State.STOPPED for r in self.replicas):
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                break
        self._fail_queued(PoolStoppedError(f"{self.name} is stopping"))
        for supervisor in self._supervisors:
            supervisor.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # and what came back from a worker that died while it drained
        self._fail_queued(PoolStoppedError(f"{self.name} is stopping"))
        if self._slab is not None:
            descriptor, self._slab = self._slab.detach(), None  # who keeps the pool does not keep the memory
            await asyncio.to_thread(os.close, descriptor)

    def _fail_queued(self, error: Exception) -> None:
        for entry in list(self._queue):
            self._queue.remove(entry)
            entry.settle(error)

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

        Raises PoolStoppedError, QueueFullError.
        """
        if self._is_stopping:
            raise PoolStoppedError(f"{self.name} is stopping")
        if self._error is not None and self.state == "failed":
            raise self._error
        wait = self.estimated_wait()
        is_full = len(self._queue) >= self._limits.max_queue_size or (self._slab and not self._slab.num_free)
        if is_full or wait > deadline - time.monotonic():
            raise QueueFullError(wait)

    def estimated_wait(self) -> float:
        """Seconds until an entry that comes now would have its answer, at the rate measured so far."""
        running = sum(b.num_rows for r in self.replicas for b in r.in_flight)
        return self._rate.wait(self._queue.cost + running, sum(r.is_serving for r in self.replicas))

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
        json.dumps(params, allow_nan=False)  # fails this caller; when a batch is sent it would fail others
        lease.take()
        entry = Entry(
            lease, params, deadline, asyncio.get_running_loop().create_future(), batch_key, cost, affinity
        )
        if self._is_stopping or self.state == "failed":
            entry.settle(self._error or PoolStoppedError(f"{self.name} is stopping"))
        else:
            self._queue.append(entry)
            self._assign_batches_to_replicas()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await entry.future
        except TimeoutError:
            raise DeadlineExceededError(f"no answer from {self.name} in time") from None
        finally:
            if self._queue.remove(entry):  # cancelled or late while waiting: no worker has it
                entry.settle(DeadlineExceededError())
                self._notify()

    # Assignment

    def _assign_batches_to_replicas(self) -> None:
        """The only place where work is given out."""
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        now = time.monotonic()
        for entry in self._queue.pop_expired(now):
            entry.settle(DeadlineExceededError(f"no answer from {self.name} in time"))
        while (found := self._next_head(now)) is not None:
            head, supervisor = found
            due_at = self._queue.batch_due_at(head, self._limits.max_batch_size, self._limits.max_queue_delay)
            if due_at > now:
                self._assign_again_at(due_at)
                return
            may_join = partial(self._may_join, supervisor.replica.index, now)
            batch = self._queue.pop_batch(head, self._limits.max_batch_size, may_join)
            supervisor.replica.submit(batch)
            supervisor.watch()

    def _next_head(self, now: float) -> tuple[Entry, Supervisor] | None:
        """The oldest entry that need not wait for a replica of its own, and where it runs. None if none can run."""
        awaited_until = float("inf")
        for entry in self._queue:
            awaited = self._awaited(entry, now)
            able = [s for s in self._supervisors if s.replica.can_take(entry)]
            preferred = [s for s in able if s.replica.index == awaited]
            if awaited is not None and not preferred:
                awaited_until = min(awaited_until, entry.queued_at + self._batch_seconds)
                continue
            supervisor = min(preferred or able, key=_load_of, default=None)
            if supervisor is None:
                break
            return entry, supervisor
        if awaited_until < float("inf") and any(s.replica.is_serving for s in self._supervisors):
            self._assign_again_at(awaited_until)
        return None

    def _awaited(self, entry: Entry, now: float) -> int | None:
        """The replica that `entry` had better run on, while that is worth waiting for."""
        index = self._affinity.replica(entry.affinity)
        if index is None or entry.is_suspect or not self.replicas[index].is_serving:
            return None
        return index if now < entry.queued_at + self._batch_seconds else None

    def _may_join(self, index: int, now: float, entry: Entry) -> bool:
        """Whether `entry` may be in a batch of this replica: it waits for no other one."""
        return self._awaited(entry, now) in (None, index)

    @property
    def _batch_seconds(self) -> float:
        """What a full batch takes, at the rate measured so far."""
        return self._rate.row_seconds * self._limits.max_batch_size

    def _assign_again_at(self, moment: float) -> None:
        delay = max(moment - time.monotonic(), 0.0)
        self._delay_timer = asyncio.get_running_loop().call_later(delay, self._assign_batches_to_replicas)

    # What supervisors tell

    async def _on_ready(self, ready: Ready) -> Slab:
        async with self._slab_lock:  # the first two replicas may come at once
            if self._slab is None:
                # in a thread: the kernel clears every page, 0.1 s and more in which nobody else would be served
                self._slab = await asyncio.to_thread(Slab, self._num_slots, ready.slot_shape)
        if self._slab.slot_shape != tuple(ready.slot_shape):
            raise ProtocolError(
                f"slot shape {ready.slot_shape} differs from {self._slab.slot_shape} of the pool"
            )
        if self._spec is None:
            self._spec = ready.spec
        self._error = None
        self._progress = None
        # the replica is READY only after this has returned
        asyncio.get_running_loop().call_soon(self._assign_batches_to_replicas)
        return self._slab

    @property
    def _num_slots(self) -> int:
        limits = self._limits
        num_running = len(self.replicas) * limits.max_in_flight * limits.max_batch_size
        return limits.max_queue_size + num_running + limits.num_extra_slots

    def _on_progress(self, fields: Mapping[str, Any]) -> None:
        self._progress = fields
        self._progress_log.note(fields)

    def _on_done(self, replica: Replica, batch: RunningBatch) -> None:
        self.counters["batches"] += 1
        self._rate.observe(batch.num_rows, time.monotonic() - batch.started_at)
        for entry in batch.entries:
            self._affinity.note(entry.affinity, replica.index)
        self._assign_batches_to_replicas()
        self._notify()

    def _on_load_failed(self, fatal: Fatal) -> None:
        self._error = LoadFailedError(fatal.code, fatal.reason)
        log.error("%s cannot be loaded: %s", self.name, self._error)

    def _on_death(self, replica: Replica, death: Death) -> None:
        """Nobody fails because a worker died: what it had runs again, at the head of the queue and alone."""
        self.counters[f"deaths_{death.reason.partition(':')[0]}"] += 1
        self._affinity.forget(replica.index)
        replays, num_condemned = judge(death)
        self.counters["poison"] += num_condemned
        self.counters["replays"] += len(replays)
        self._queue.put_back(replays)
        self._assign_batches_to_replicas()
        self._notify()


def _load_of(supervisor: Supervisor) -> tuple[int, int]:
    """Fewest batches in flight first; among equals the one that has done the least."""
    return len(supervisor.replica.in_flight), supervisor.replica.num_batches
