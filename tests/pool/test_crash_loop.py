"""A model whose workers die one after the other."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from pool import CrashLoopError, EntryFailedError, Launcher, Limits, Placement, Pool
from tests.pool.conftest import MakePool, ask, soon, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTY = "tests.pool.faulty:load"
LIMITS = Limits(breaker_failures=3, breaker_retry=0.5)


async def test_a_model_whose_workers_keep_dying_is_refused_at_once_and_tried_now_and_then(
    make_pool: MakePool, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    dies.touch()
    pool = await make_pool(2, factory=FAULTY, limits=LIMITS, dies_loading=str(dies), wait=False)
    await until(lambda: pool.counters["deaths_exit_3"] >= 3)
    with pytest.raises(CrashLoopError) as caught:
        await ask(pool, deadline=soon(60))
    assert 0 < caught.value.retry_after <= 0.5
    await until(lambda: pool.counters["deaths_exit_3"] >= 5)
    assert pool.state == "crash_looping"
    dies.unlink()
    await until(lambda: pool.is_ready)
    assert (await ask(pool)).num_replays == 0
    await until(lambda: all(replica.is_serving for replica in pool.replicas))


async def test_what_waits_when_the_breaker_opens_is_answered_by_the_trial(
    make_pool: MakePool, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    pool = await make_pool(factory=FAULTY, limits=LIMITS, dies_loading=str(dies))
    running = asyncio.create_task(ask(pool, do="sleep", seconds=1.0, deadline=soon(60)))
    await until(lambda: bool(pool.replicas[0].in_flight))
    dies.touch()
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.counters["deaths_exit_3"] >= 3)
    dies.unlink()
    assert (await running).num_replays == 1


async def test_a_sibling_that_makes_progress_keeps_the_breaker_closed(
    make_pool: MakePool, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    pool = await make_pool(2, factory=FAULTY, limits=LIMITS, dies_loading=str(dies))
    dies.touch()
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    while pool.counters["deaths_exit_3"] < 4:
        assert (await ask(pool)).replica == 1
        await asyncio.sleep(0.01)
    dies.unlink()
    await until(lambda: pool.replicas[0].is_serving)


async def test_a_model_that_dies_of_every_input_is_stopped_after_a_few(
    make_pool: MakePool, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    dies.touch()
    pool = await make_pool(factory=FAULTY, limits=LIMITS, dies_while=str(dies))
    for number in range(3):
        with pytest.raises(EntryFailedError):
            await ask(pool, number, deadline=soon(60))
    with pytest.raises(CrashLoopError):
        await ask(pool, 3, deadline=soon(60))
    assert pool.replicas[0].num_deaths <= 8
    dies.unlink()
    await until(lambda: pool.is_ready)
    assert (await ask(pool, 99)).num_replays == 0


async def test_a_crash_loop_costs_little_cpu_once_the_breaker_is_open(
    launcher: Launcher, tmp_path: Path
) -> None:
    dies = tmp_path / "dies"
    dies.touch()
    pool = Pool(
        "loops", FAULTY, {"dies_loading": str(dies)}, [Placement()] * 2, launcher, Limits(breaker_retry=1.0)
    )
    await pool.start()
    try:
        await until(lambda: pool.counters["deaths_exit_3"] >= 5)
        deaths, started = pool.counters["deaths_exit_3"], time.monotonic()
        await until(lambda: pool.counters["deaths_exit_3"] >= deaths + 3)
        # one may have been starting already; the first trial comes after 1 s, the second 2 s later
        assert time.monotonic() - started >= 2.5
    finally:
        await pool.stop(drain_timeout=0.0)


async def test_a_forkserver_that_does_not_answer_is_replaced(launcher: Launcher, make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(launch_timeout=0.5))
    before = launcher.pid
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    assert (await ask(pool, 5, deadline=soon(60))).replica == 0
    assert launcher.pid != before


async def test_a_model_that_says_it_cannot_load_fails_and_is_no_crash_loop(make_pool: MakePool) -> None:
    limits = Limits(breaker_failures=2, breaker_retry=3600.0, max_load_failures=3)
    pool = await make_pool(2, fail_load="always", limits=limits, wait=False)
    await until(lambda: pool.state == "failed")
    assert pool.counters["deaths_load_failed"] == 6
