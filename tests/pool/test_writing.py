"""Pools whose model answers by writing into the slot."""

from __future__ import annotations

import asyncio
import json
import signal

import numpy as np
import pytest

from pool import EntryFailedError, Limits
from tests.pool.conftest import MakePool, ask, picture, soon, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FACTORY = "tests.pool.fakes:load_writes"
LIMITS = Limits(max_batch_size=1, writes_slots=True, is_proven_by_load=True)


async def test_what_the_model_wrote_is_there_until_the_caller_lets_go(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FACTORY, limits=LIMITS)
    with await pool.lease(soon()) as lease:
        lease.pixels[:] = picture(1)
        result = await pool.infer(lease, {}, soon())
        assert json.loads(result.payload)["writable"]
        others = await asyncio.gather(*(ask(pool, number) for number in range(20)))
        assert len(others) == 20
        assert np.array_equal(lease.pixels, 255 - picture(1)), "none of them had the slot"
        assert not pool.is_idle
    assert pool.is_idle


async def test_a_failure_and_a_caller_who_left_hold_no_slot(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FACTORY, limits=LIMITS)
    with pytest.raises(EntryFailedError):
        await ask(pool, do="refuse")
    task = asyncio.create_task(ask(pool, do="sleep", seconds=0.2))
    await until(lambda: bool(pool.replicas[0].in_flight))
    task.cancel()
    await asyncio.wait([task])
    assert not pool.is_idle, "the worker still has it"
    await until(lambda: pool.is_idle)


async def test_a_worker_that_is_proven_by_its_load_never_opens_the_breaker(make_pool: MakePool) -> None:
    limits = Limits(max_batch_size=1, is_proven_by_load=True, breaker_failures=3)
    pool = await make_pool(limits=limits)
    for number in range(4):
        with pytest.raises(EntryFailedError):
            await ask(pool, number, do="die", signal=int(signal.SIGSEGV))
    assert pool.counters["deaths_sigsegv"] == 8 and pool.state != "crash_looping"
    await ask(pool)


async def test_equal_content_is_known_again_whatever_else_lies_in_the_slot(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_batch_size=1, is_proven_by_load=True))
    for rest, deaths in ((0, 2), (1, 2)):
        with await pool.lease(soon()) as lease:
            lease.pixels[:] = rest
            lease.content = lease.pixels[:4]
            lease.content[:] = 9
            with pytest.raises(EntryFailedError):
                await pool.infer(lease, {"do": "segfault"}, soon())
        assert pool.counters["deaths_sigsegv"] == deaths
