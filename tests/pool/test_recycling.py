from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pool import Limits, Pool
from pool.replica import State
from tests.pool.conftest import MakePool, ask, until
from tests.pool.test_pool import crc

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTY = "tests.pool.faulty:load"


async def _ask_until(pool: Pool, wanted: str, num: int) -> list[int]:
    """Ask all the time until the counter is there; every answer must be right. How many served at each answer."""
    num_serving: list[int] = []

    async def client(first: int) -> None:
        number = first
        while pool.counters[wanted] < num:
            result = await ask(pool, number)
            assert json.loads(result.payload)["crc"] == crc(number)
            num_serving.append(sum(replica.is_serving for replica in pool.replicas))
            number += 4

    await asyncio.gather(*(client(first) for first in range(4)))
    return num_serving


@pytest.mark.parametrize("num_replicas", [1, 2])
async def test_workers_that_grow_are_replaced_one_at_a_time_and_nobody_notices(
    make_pool: MakePool, num_replicas: int
) -> None:
    pool = await make_pool(
        num_replicas,
        factory=FAULTY,
        limits=Limits(max_worker_growth=20_000_000),
        grows=1_000_000,
        seconds=0.005,
    )
    before = {replica.pid for replica in pool.replicas}
    num_serving = await _ask_until(pool, "recycled_grown", num_replicas)
    assert min(num_serving) == num_replicas, "the replacement is there first"
    assert not before & {replica.pid for replica in pool.replicas}
    await until(lambda: pool.counters["deaths_stopped"] == num_replicas)
    assert all(name.startswith("deaths_stopped") for name in pool.counters if name.startswith("deaths"))


async def test_workers_that_do_not_grow_stay(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_worker_growth=20_000_000), seconds=0.005)
    pid = pool.replicas[0].pid
    for number in range(300):
        await ask(pool, number)
    assert pool.replicas[0].pid == pid


async def test_workers_are_replaced_when_they_are_old(make_pool: MakePool) -> None:
    pool = await make_pool(2, limits=Limits(max_worker_age=1.5), seconds=0.005)
    assert min(await _ask_until(pool, "recycled_old", 2)) == 2


async def test_a_worker_stays_when_there_is_no_replacement(make_pool: MakePool, tmp_path: Path) -> None:
    dies = tmp_path / "dies"
    pool = await make_pool(factory=FAULTY, limits=Limits(max_worker_age=0.5), dies_loading=str(dies))
    dies.touch()
    pid = pool.replicas[0].pid
    await until(lambda: pool.counters["deaths_exit_3"] >= 1)
    assert pool.replicas[0].pid == pid
    assert json.loads((await ask(pool, 3)).payload)["crc"] == crc(3)


async def test_a_pool_that_stops_while_a_worker_is_replaced_leaves_no_process(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_worker_age=0.1), load_seconds=1.0)
    await until(lambda: len(pool._tasks) == 2)
    spare = next(s for s in pool._tasks.values() if s.replica not in pool.replicas)
    await until(lambda: spare.replica.pid is not None)
    await pool.stop(drain_timeout=1.0)
    assert spare.replica.state is State.STOPPED
    assert spare.replica.pid is None
