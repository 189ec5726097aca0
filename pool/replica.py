"""A replica: a position in the pool, its state, and the batches its worker is running. Front process.

BACKOFF ──▶ STARTING ──Ready──▶ READY ──submit──▶ BUSY      DEAD: its process is confirmed gone
   ▲                              ▲ ◀────Done────── │        STOPPED: by wish, or loading failed too often
   └────────── DEAD ◀── any state with a process             DRAINING: finishes what it has, takes nothing new
"""

from __future__ import annotations

import enum
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pool.batching import Entry, Result
from pool.channel import Channel
from pool.errors import EntryFailedError
from pool.pace import MAX_SHAPES, Shape
from pool.placement import Placement
from pool.protocol import Batch, Done, ProtocolError
from pool.slab import Lease

log = logging.getLogger(__name__)

_PATIENCE = 64
"""Batches that have to fit before a larger one is tried again."""
_MAX_PATIENCE = 64 * _PATIENCE


class State(enum.Enum):
    """Where a replica is in its life."""

    BACKOFF = "backoff"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    DEAD = "dead"
    STOPPED = "stopped"


_ALLOWED = {
    State.BACKOFF: {State.STARTING, State.STOPPED},
    State.STARTING: {State.READY, State.DRAINING, State.DEAD},
    State.READY: {State.BUSY, State.DRAINING, State.DEAD},
    State.BUSY: {State.READY, State.DRAINING, State.DEAD},
    State.DRAINING: {State.DEAD},
    State.DEAD: {State.BACKOFF, State.STOPPED},
    State.STOPPED: set[State](),
}


@dataclass(slots=True)
class RunningBatch:
    """What a worker was given and has not answered."""

    batch_id: int
    entries: list[Entry]
    submitted_at: float
    started_at: float
    """When the worker can have begun: at submission, or when the batch before it was done."""
    timeout: float
    """Seconds after `started_at` at which the worker counts as hung."""
    is_first: bool = False
    """The worker had not done any of this shape."""
    is_trial: bool = False
    """It has more rows than are known to fit into the worker's memory."""

    @property
    def num_rows(self) -> int:
        """Cost of all entries."""
        return sum(entry.cost for entry in self.entries)

    @property
    def shape(self) -> Shape:
        """What decides how long it takes."""
        return self.entries[0].batch_key, self.num_rows

    @property
    def is_suspect(self) -> bool:
        """It holds one entry that runs alone after a death."""
        return self.entries[0].is_suspect


@dataclass(frozen=True, slots=True)
class Examination:
    """The canary that a worker was given."""

    batch_id: int
    nonce: int


class Replica:
    """State and batches in flight of one position. Decides nothing: the pool assigns, the supervisor restarts."""

    def __init__(
        self, index: int, placement: Placement, max_in_flight: int, on_change: Callable[[], None]
    ) -> None:
        self.index = index
        self.placement = placement
        self.in_flight: deque[RunningBatch] = deque()
        self.pid: int | None = None
        self.num_deaths = 0
        self.num_batches = 0
        self.examination: Examination | None = None
        """Under way; nothing else is given out meanwhile."""
        self.is_examination_due = False
        """Nothing is given out before it."""
        self.max_rows: int | None = None
        """What is known to fit into this worker's memory; None: everything so far."""
        self.best_batch_size = 0
        """More rows at once gain nothing in this worker; 0: they always do."""
        self._num_fitting = 0
        self._patience = _PATIENCE
        self._known_to_fit: int | None = None
        self._shapes: set[Shape] = set()
        self._max_in_flight = max_in_flight
        self._on_change = on_change
        self._state = State.BACKOFF
        self._channel: Channel | None = None
        self._batch_ids = itertools.count(1)

    @property
    def state(self) -> State:
        """The one state attribute."""
        return self._state

    @property
    def is_serving(self) -> bool:
        """A worker is there and may be given batches."""
        return self._state in (State.READY, State.BUSY)

    def become(self, state: State) -> None:
        """Change state; the pool hears of it. Raises RuntimeError for a transition that is not in the table."""
        if state is self._state:
            return
        if state not in _ALLOWED[self._state]:
            raise RuntimeError(f"replica {self.index}: {self._state.name} to {state.name} is not allowed")
        level = logging.DEBUG if {state, self._state} == {State.READY, State.BUSY} else logging.INFO
        log.log(
            level, "replica %d: %s -> %s", self.index, self._state.value, state.value, extra={"pid": self.pid}
        )
        self._state = state
        self._on_change()

    @property
    def has_progressed(self) -> bool:
        """Its worker has done a batch."""
        return bool(self._shapes)

    def connect(self, channel: Channel, pid: int) -> None:
        """A worker fills the position."""
        self._channel, self.pid = channel, pid
        self.examination, self.is_examination_due = None, False
        self.max_rows, self._num_fitting, self.best_batch_size = None, 0, 0
        self._known_to_fit, self._patience = None, _PATIENCE
        self._shapes.clear()

    def disconnect(self) -> list[RunningBatch]:
        """The worker is confirmed dead. Returns what it left unanswered, oldest first."""
        self._channel = None
        self.pid = None
        orphans = list(self.in_flight)
        self.in_flight.clear()
        return orphans

    def can_take(self, entry: Entry) -> bool:
        """Whether a batch built around `entry` may go here now. A suspect shares a worker with nothing."""
        if not self.is_serving or self.examination or self.is_examination_due:
            return False
        if not self.in_flight:
            return True
        shares = entry.is_suspect or self.in_flight[0].is_suspect
        return not shares and len(self.in_flight) < self._max_in_flight

    def row_limit(self, max_batch_size: int) -> int:
        """How many rows a batch for this worker has at most."""
        return min(max_batch_size, self.max_rows or max_batch_size, self.best_batch_size or max_batch_size)

    def is_first(self, shape: Shape) -> bool:
        """Whether the worker has done no batch of this shape."""
        return shape not in self._shapes

    def submit(self, entries: list[Entry], timeout: float, *, is_alone: bool = False) -> RunningBatch:
        """Send a batch to the worker; the pixels are in the slots already. `is_alone`: nothing else runs or waits."""
        assert self._channel is not None, "only a serving replica is given batches"
        now = time.monotonic()
        batch = RunningBatch(next(self._batch_ids), entries, now, now, timeout)
        batch.is_first = self.is_first(batch.shape)
        batch.is_trial = self._known_to_fit is not None and batch.num_rows > self._known_to_fit
        self.in_flight.append(batch)
        rows = [[e.lease.slot, e.lease.nonce, e.params] for e in entries]
        self._channel.send(Batch(batch.batch_id, rows, is_alone))
        self.become(State.BUSY)
        return batch

    def examine(self, canary: Lease, params: Mapping[str, Any]) -> None:
        """Send the canary to an idle worker."""
        assert self._channel is not None and not self.in_flight, "an examination is alone"
        self.is_examination_due = False
        self.examination = Examination(next(self._batch_ids), canary.nonce)
        self._channel.send(Batch(self.examination.batch_id, [[canary.slot, canary.nonce, dict(params)]]))

    def is_examined_by(self, batch_id: int) -> bool:
        """Whether this is the number of the examination under way."""
        return self.examination is not None and self.examination.batch_id == batch_id

    def examined(self, done: Done) -> bytes | None:
        """The worker's answer to the canary, None if it failed. Raises ProtocolError."""
        examination, self.examination = self.examination, None
        if examination is None or [result[0] for result in done.results] != [examination.nonce]:
            raise ProtocolError("an answer to an examination that was not asked for")
        return None if done.results[0][1] is not None else done.payloads[0]

    def complete(self, done: Done) -> RunningBatch:
        """Hand out the answers of the oldest batch. Raises ProtocolError, and frees nothing, if they do not fit it."""
        if not self.in_flight or self.in_flight[0].batch_id != done.batch_id:
            raise ProtocolError(f"answers to batch {done.batch_id}, which is not the one running")
        batch = self.in_flight[0]
        outcomes = [*_outcomes(batch, done, self.index)]  # all or nothing: a torn message settles no one
        self.in_flight.popleft()
        self.num_batches += 1
        if len(self._shapes) < MAX_SHAPES:
            self._shapes.add(batch.shape)
        self._learn_what_fits(batch, done)
        for entry, outcome in zip(batch.entries, outcomes, strict=True):
            entry.settle(outcome)
        if self.in_flight:
            self.in_flight[0].started_at = time.monotonic()
        elif self._state is State.BUSY:
            self.become(State.READY)
        return batch

    def _learn_what_fits(self, batch: RunningBatch, done: Done) -> None:
        """Fewer rows after running out of memory; twice as many again once that went well for a while, which gets
        longer each time that they did not fit after all."""
        if done.max_rows:
            self._patience = min(self._patience * (1 + batch.is_trial), _MAX_PATIENCE)
            self.max_rows = self._known_to_fit = done.max_rows
            self._num_fitting = 0
        elif self.max_rows is not None:
            self._num_fitting += 1
            if self._num_fitting >= self._patience:
                self._known_to_fit, self.max_rows, self._num_fitting = self.max_rows, self.max_rows * 2, 0

    def describe(self) -> dict[str, Any]:
        """What operators see: JSON types."""
        return {
            "index": self.index,
            "device": self.placement.label,
            "cores": list(self.placement.cores),
            "state": self._state.value,
            "pid": self.pid,
            "in_flight": len(self.in_flight),
            "batches": self.num_batches,
            "deaths": self.num_deaths,
        }

    def __repr__(self) -> str:
        return f"<Replica {self.index} {self.placement.label} {self._state.name} in_flight={len(self.in_flight)}>"


def _outcomes(batch: RunningBatch, done: Done, replica: int) -> list[Result | Exception]:
    if len(done.results) != len(batch.entries):
        raise ProtocolError(f"{len(done.results)} answers for {len(batch.entries)} entries")
    outcomes: list[Result | Exception] = []
    for entry, (nonce, error, _), payload in zip(batch.entries, done.results, done.payloads, strict=True):
        if nonce != entry.lease.nonce:
            raise ProtocolError("an answer to an entry that is not in this batch")
        if error is not None:
            code, reason = error
            outcomes.append(EntryFailedError(str(code), str(reason)))
            continue
        timings = {
            "queue": batch.started_at - entry.queued_at,
            "infer": float(done.timings.get("infer", done.timings.get("total", 0.0))),
            "post": float(done.timings.get("post", 0.0)),
        }
        outcomes.append(Result(payload, timings, len(batch.entries), entry.num_replays, replica))
    return outcomes
