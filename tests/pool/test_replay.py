from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pool.batching import Entry
from pool.death import Death
from pool.replay import Judge
from pool.replica import RunningBatch
from pool.slab import Slab


@pytest.fixture
def slab() -> Iterator[Slab]:
    slab = Slab(8, (2, 2, 3))
    yield slab
    slab.close()


def make(slab: Slab) -> Entry:
    lease = slab.lease()
    lease.take()
    return Entry(lease, {}, 1e9, asyncio.get_running_loop().create_future())


def death(*entries: Entry, is_attributable: bool = True, reason: str = "sigsegv") -> Death:
    batches = [RunningBatch(1, list(entries), 0.0, 0.0, 1.0)] if entries else []
    return Death(reason, is_attributable, batches)


async def test_what_died_in_company_runs_again_as_suspects(slab: Slab) -> None:
    judge, entries = Judge(), [make(slab), make(slab)]
    for _ in range(5):
        verdict = judge.judge(death(*entries))
        assert verdict.replays == entries
        assert not verdict.condemned
    assert all(entry.is_suspect for entry in entries)


async def test_two_deaths_alone_condemn(slab: Slab) -> None:
    judge, entry = Judge(), make(slab)
    assert judge.judge(death(entry)).replays == [entry]
    assert judge.judge(death(entry)).condemned == [entry]
    assert entry.deaths == ["sigsegv", "sigsegv"]


async def test_a_death_that_nobody_caused_never_condemns(slab: Slab) -> None:
    judge, entry = Judge(), make(slab)
    for _ in range(9):
        assert judge.judge(death(entry, is_attributable=False)).replays == [entry]


async def test_with_another_death_in_between_a_third_has_to_show_it(slab: Slab) -> None:
    judge, entry, other = Judge(), make(slab), make(slab)
    judge.judge(death(entry))
    judge.judge(death(other))
    assert judge.judge(death(entry)).replays == [entry]
    assert judge.judge(death(entry)).condemned == [entry]


async def test_deaths_in_between_that_nobody_caused_change_nothing(slab: Slab) -> None:
    judge, entry, other = Judge(), make(slab), make(slab)
    judge.judge(death(entry))
    judge.judge(death(other, is_attributable=False))
    judge.judge(death())
    assert judge.judge(death(entry)).condemned == [entry]


async def test_who_has_left_is_dropped(slab: Slab) -> None:
    judge, entry = Judge(), make(slab)
    entry.future.cancel()
    verdict = judge.judge(death(entry))
    assert not verdict.replays
    assert slab.num_free == slab.num_slots
