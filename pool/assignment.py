"""Which entries run together, where and when. Front process.

All decisions about who runs what are taken in `Assignment.assign`, which is synchronous: between its first and its
last line nothing else can happen, so there is no state to lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

from pool.affinity import Affinity
from pool.batching import Entry, RequestQueue
from pool.errors import DeadlineExceededError
from pool.limits import Limits
from pool.pace import Pace
from pool.rate import DrainRate
from pool.replica import Replica, RunningBatch
from pool.supervisor import Supervisor


class Assignment:
    """The queue of a pool, and what it has learnt about how fast it is emptied."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.queue = RequestQueue()
        self.supervisors: Sequence[Supervisor] = ()
        """One per position, in order; those that work is given to."""
        self._name = name
        self._limits = limits
        self._rate = DrainRate()
        self._pace = Pace(limits)
        self._affinity = Affinity()
        self._timer: asyncio.TimerHandle | None = None

    def assign(self) -> None:
        """Give every replica that is free what waits. The only place where work is given out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        for entry in self.queue.pop_expired(now):
            entry.settle(DeadlineExceededError(f"no answer from {self._name} in time"))
        while (found := self._next_head(now)) is not None:
            head, supervisor = found
            max_rows = supervisor.replica.row_limit(self._limits.max_batch_size)
            due_at = self.queue.batch_due_at(head, max_rows, self._limits.max_queue_delay)
            if due_at > now:
                self._assign_again_at(due_at)
                return
            self._give(head, supervisor, now)

    def _give(self, head: Entry, supervisor: Supervisor, now: float) -> None:
        replica = supervisor.replica
        max_rows = replica.row_limit(self._limits.max_batch_size)
        is_alone = not any(each.replica.in_flight for each in self.supervisors)
        batch = self.queue.pop_batch(head, max_rows, partial(self._may_join, replica.index, now))
        shape = head.batch_key, sum(entry.cost for entry in batch)
        timeout = self._pace.timeout(shape, is_first=replica.is_first(shape))
        # condemned only by a run that had twice the time
        timeout = 2 * timeout if head.num_deaths_alone else timeout
        replica.submit(batch, timeout, is_alone=is_alone and not self.queue)
        supervisor.watch()

    def _next_head(self, now: float) -> tuple[Entry, Supervisor] | None:
        """The oldest entry that need not wait for a replica of its own, and where it runs. None if none can run."""
        awaited_until = float("inf")
        for entry in self.queue:
            awaited = self._awaited(entry, now)
            able = [s for s in self.supervisors if s.replica.can_take(entry)]
            preferred = [s for s in able if s.replica.index == awaited]
            if awaited is not None and not preferred:
                awaited_until = min(awaited_until, entry.queued_at + self._batch_seconds)
                continue
            supervisor = min(preferred or able, key=_load_of, default=None)
            if supervisor is None:
                break
            return self._innocent_before(entry, supervisor.replica, now) or entry, supervisor
        if awaited_until < float("inf"):
            self._assign_again_at(awaited_until)
        return None

    def _innocent_before(self, entry: Entry, replica: Replica, now: float) -> Entry | None:
        """Who goes first where `entry` is a suspect and the worker is fresh: the oldest that is not, if there is one.

        Else many killers in a row would look like a worker that cannot do anything, and all would be refused.
        """
        if not entry.is_suspect or replica.has_progressed:
            return None
        others = (other for other in self.queue if not other.is_suspect and replica.can_take(other))
        return next((other for other in others if self._may_join(replica.index, now, other)), None)

    def _awaited(self, entry: Entry, now: float) -> int | None:
        """The replica that `entry` had better run on, while that is worth waiting for."""
        index = self._affinity.replica(entry.affinity)
        if index is None or entry.is_suspect or not self.supervisors[index].replica.is_serving:
            return None
        return index if now < entry.queued_at + self._batch_seconds else None

    def _may_join(self, index: int, now: float, entry: Entry) -> bool:
        """Whether `entry` may be in a batch of this replica: it waits for no other one."""
        return self._awaited(entry, now) in (None, index)

    @property
    def _batch_seconds(self) -> float:
        """What a full batch takes, at the rate measured so far."""
        largest = self._limits.max_batch_size
        rows = max((each.replica.row_limit(largest) for each in self.supervisors), default=largest)
        return self._rate.row_seconds * rows

    def _assign_again_at(self, moment: float) -> None:
        delay = max(moment - time.monotonic(), 0.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self.assign)

    def observe(self, replica: Replica, batch: RunningBatch) -> None:
        """`replica` is done with `batch`: learn from it."""
        seconds = time.monotonic() - batch.started_at
        self._rate.observe(batch.num_rows, seconds)
        self._pace.observe(batch.shape, seconds, is_first=batch.is_first)
        for entry in batch.entries:
            self._affinity.note(entry.affinity, replica.index)

    def learn_rate(self, other: Assignment) -> None:
        """Begin with what another has learnt."""
        self._rate.row_seconds = other._rate.row_seconds

    def forget(self, replica: Replica) -> None:
        """Its worker is gone and what that kept with it."""
        self._affinity.forget(replica.index)

    def estimated_wait(self) -> float:
        """Seconds until an entry that comes now would have its answer, at the rate measured so far."""
        replicas = [supervisor.replica for supervisor in self.supervisors]
        running = sum(batch.num_rows for replica in replicas for batch in replica.in_flight)
        return self._rate.wait(self.queue.cost + running, sum(r.is_serving for r in replicas))


def _load_of(supervisor: Supervisor) -> tuple[int, int]:
    """Fewest batches in flight first; among equals the one that has done the least."""
    return len(supervisor.replica.in_flight), supervisor.replica.num_batches
