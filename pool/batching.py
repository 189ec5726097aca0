"""Entries, their queue, and which of them make the next batch. Front process, no `await` anywhere.

There is no timer that waits for a batch to fill: entries gather here while all replicas are busy, and a free
one gets all that wait. Only with `max_queue_delay` a short batch is held back.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pool.slab import Lease


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one entry: `payload` is one JSON object, `timings` are stages in float seconds."""

    payload: bytes
    timings: Mapping[str, float]
    batch_size: int
    num_replays: int
    replica: int


@dataclass(slots=True, eq=False)
class Entry:
    """One request inside the pool."""

    lease: Lease
    params: Mapping[str, Any]
    deadline: float
    future: asyncio.Future[Result]
    batch_key: str = ""
    cost: int = 1
    affinity: str = ""
    """What it is about: entries with the same one cost less on the same replica."""
    queued_at: float = field(default_factory=time.monotonic)
    is_suspect: bool = False
    """It was in a batch whose worker died: from now on it runs alone."""
    deaths: list[str] = field(default_factory=list)
    """Why each worker that had it died."""
    num_deaths_alone: int = 0
    """Those of them that it may have caused and nobody else."""
    first_death_alone: int = 0
    """Number of the first of these among all such deaths in the pool."""
    returns_lease: bool = False
    """The answer lies in the slot: with a result the caller has its lease back."""

    @property
    def num_replays(self) -> int:
        """How often it had to run again."""
        return len(self.deaths)

    def is_twin_of(self, other: Entry) -> bool:
        """Whether a model cannot tell the two apart."""
        return self.params == other.params and np.array_equal(self.lease.content, other.lease.content)

    def settle(self, outcome: Result | Exception) -> None:
        """The end of it: gives the slot back and the caller, if still there, its answer. No worker may hold it."""
        if self.returns_lease and isinstance(outcome, Result) and not self.future.done():
            self.lease.give_back()
        else:
            self.lease.finish()
        if self.future.done():
            return
        if isinstance(outcome, Result):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)


class RequestQueue:
    """First in, first out, except that replays go to the head. O(1) removal of an entry whose client left."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self.cost = 0
        """Rows waiting."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def append(self, entry: Entry) -> None:
        """Add at the tail."""
        self._entries[id(entry)] = entry
        self.cost += entry.cost

    def put_back(self, entries: list[Entry]) -> None:
        """Add at the head, keeping their order."""
        for entry in reversed(entries):
            self._entries[id(entry)] = entry
            self._entries.move_to_end(id(entry), last=False)
            self.cost += entry.cost

    def remove(self, entry: Entry) -> bool:
        """Take one out. False if it is not waiting here."""
        if self._entries.pop(id(entry), None) is None:
            return False
        self.cost -= entry.cost
        return True

    def pop_expired(self, now: float) -> list[Entry]:
        """Take out every entry whose deadline has passed, before it costs compute."""
        expired = [entry for entry in self if entry.deadline <= now]
        for entry in expired:
            self.remove(entry)
        return expired

    def pop_batch(
        self, head: Entry, max_batch_size: int, may_join: Callable[[Entry], bool] = lambda _: True
    ) -> list[Entry]:
        """`head` and what may run with it: same batch key, in order, at most `max_batch_size` rows, and `may_join`.

        A suspect runs alone; so does an entry that costs more than `max_batch_size` by itself.
        """
        batch, num_rows = [head], head.cost
        for entry in self:
            if head.is_suspect or num_rows >= max_batch_size:
                break
            if entry is head or entry.is_suspect or entry.batch_key != head.batch_key or not may_join(entry):
                continue
            if num_rows + entry.cost > max_batch_size:
                break
            batch.append(entry)
            num_rows += entry.cost
        for entry in batch:
            self.remove(entry)
        return batch

    def batch_due_at(self, head: Entry, max_batch_size: int, max_queue_delay: float) -> float:
        """The moment at which the batch of `head` may go: at once when it is full or `head` is a suspect."""
        if max_queue_delay <= 0 or head.is_suspect:
            return head.queued_at
        num_rows = sum(entry.cost for entry in self if entry.batch_key == head.batch_key)
        return head.queued_at if num_rows >= max_batch_size else head.queued_at + max_queue_delay
