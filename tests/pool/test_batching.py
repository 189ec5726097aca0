from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from pool.batching import Entry, RequestQueue
from pool.slab import Slab


@pytest.fixture
def slab() -> Iterator[Slab]:
    slab = Slab(16, (2, 2, 3))
    yield slab
    slab.close()


def make(
    slab: Slab, name: str, key: str = "", cost: int = 1, deadline: float = 1e9, queued_at: float = 0.0
) -> Entry:
    lease = slab.lease()
    lease.take()
    future = asyncio.get_running_loop().create_future()
    return Entry(lease, {"name": name}, deadline, future, key, cost, queued_at=queued_at)


def names(entries: list[Entry]) -> str:
    return "".join(str(entry.params["name"]) for entry in entries)


def pop(queue: RequestQueue, max_batch_size: int) -> list[Entry]:
    head = next(iter(queue), None)
    return queue.pop_batch(head, max_batch_size) if head else []


def due(queue: RequestQueue, max_batch_size: int, max_queue_delay: float) -> float:
    return queue.batch_due_at(next(iter(queue)), max_batch_size, max_queue_delay)


async def test_a_batch_is_the_oldest_entries_in_order(slab: Slab) -> None:
    queue = RequestQueue()
    for name in "abcde":
        queue.append(make(slab, name))
    assert [names(pop(queue, 2)) for _ in range(3)] == ["ab", "cd", "e"]
    assert pop(queue, 2) == []
    assert queue.cost == 0


async def test_a_batch_has_the_key_of_the_head_only_and_keeps_the_others_place(slab: Slab) -> None:
    queue = RequestQueue()
    for name, key in zip("abcdef", "xyxyxy", strict=True):
        queue.append(make(slab, name, key))
    assert [names(pop(queue, 2)) for _ in range(4)] == ["ac", "bd", "e", "f"]


async def test_a_batch_is_built_around_any_entry_with_those_that_may_join(slab: Slab) -> None:
    queue = RequestQueue()
    entries = [make(slab, name) for name in "abcdef"]
    for entry in entries:
        queue.append(entry)
    assert names(queue.pop_batch(entries[2], 3, lambda entry: entry.params["name"] != "a")) == "cbd"
    assert names(list(queue)) == "aef"


async def test_rows_are_counted_by_cost(slab: Slab) -> None:
    queue = RequestQueue()
    for name, cost in zip("abcd", (3, 2, 1, 9), strict=True):
        queue.append(make(slab, name, cost=cost))
    assert queue.cost == 15
    assert [names(pop(queue, 4)) for _ in range(3)] == ["a", "bc", "d"]


async def test_replays_go_to_the_head_in_their_order(slab: Slab) -> None:
    queue = RequestQueue()
    queue.append(make(slab, "c"))
    queue.put_back([make(slab, "a"), make(slab, "b")])
    assert names(pop(queue, 8)) == "abc"


async def test_a_suspect_runs_alone_wherever_it_stands(slab: Slab) -> None:
    queue = RequestQueue()
    entries = [make(slab, name) for name in "abcd"]
    entries[1].is_suspect = True
    for entry in entries:
        queue.append(entry)
    assert [names(pop(queue, 8)) for _ in range(2)] == ["acd", "b"]
    queue.append(entries[0])
    queue.put_back([entries[1]])
    assert [names(pop(queue, 8)) for _ in range(2)] == ["b", "a"]


async def test_removal_and_expiry_leave_the_rest_in_order(slab: Slab) -> None:
    queue = RequestQueue()
    entries = [make(slab, name, deadline=10.0 if name == "b" else 20.0) for name in "abcd"]
    for entry in entries:
        queue.append(entry)
    assert queue.remove(entries[2])
    assert not queue.remove(entries[2])
    assert names(queue.pop_expired(10.0)) == "b"
    assert names(list(queue)) == "ad"
    assert queue.cost == 2


async def test_a_full_batch_or_a_suspect_is_due_at_once_and_a_short_one_after_the_delay(slab: Slab) -> None:
    queue = RequestQueue()
    queue.append(make(slab, "a", queued_at=100.0))
    assert due(queue, 2, 0.0) == 100.0
    assert due(queue, 2, 0.5) == 100.5
    queue.append(make(slab, "b", key="other", queued_at=100.1))
    assert due(queue, 2, 0.5) == 100.5
    queue.append(make(slab, "c", queued_at=100.2))
    assert due(queue, 2, 0.5) == 100.0
    pop(queue, 8)
    suspect = make(slab, "s", queued_at=time.monotonic())
    suspect.is_suspect = True
    queue.put_back([suspect])
    assert due(queue, 2, 0.5) == suspect.queued_at
