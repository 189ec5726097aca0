"""What happens when a worker's device, memory or answers go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pool import DeadlineExceededError, EntryFailedError, Limits, Placement, Pool, Result
from pool.replica import State
from tests.pool.conftest import MakePool, ask, soon, until
from tests.pool.test_pool import crc

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTY = "tests.pool.faulty:load"


async def ask_all(pool: Pool, todo: list[str | None]) -> list[Result | BaseException]:
    """One request for each, all at once, every one with a picture of its own."""
    asked = (ask(pool, number, do=do) for number, do in enumerate(todo))
    return await asyncio.gather(*asked, return_exceptions=True)


def assert_right(results: list[Result | BaseException], *, but: int | None = None) -> None:
    """Everyone has the answer of their own picture, except number `but`, whose picture was given up."""
    for number, result in enumerate(results):
        if number == but:
            assert isinstance(result, EntryFailedError)
            assert result.code == "image_unprocessable"
        else:
            assert isinstance(result, Result), result
            assert json.loads(result.payload)["crc"] == crc(number)


@pytest.mark.parametrize("options", [{}, {"check": "hang"}, {"hangs_at_exit": True}])
async def test_a_broken_device_costs_a_process_and_only_its_culprit_an_answer(
    make_pool: MakePool, options: dict[str, Any]
) -> None:
    pool = await make_pool(factory=FAULTY, limits=Limits(check_timeout=0.5), seconds=0.02, **options)
    assert_right(await ask_all(pool, [None, None, None, "poison", None]), but=3)
    assert pool.counters["deaths_device_fault"] == pool.replicas[0].num_deaths <= 3


async def test_a_fault_reported_one_batch_late_costs_nobody_an_answer(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FAULTY, limits=Limits(max_batch_size=1), seconds=0.02)
    assert_right(await ask_all(pool, [None, "poison_late", None, None]))
    assert pool.counters["deaths_device_fault"] == 1


async def test_what_does_not_fit_into_memory_is_run_in_smaller_batches(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FAULTY, fits=3, seconds=0.02)
    results = await ask_all(pool, [None] * 17)
    assert_right(results)
    assert pool.replicas[0].num_deaths == 0
    assert pool.replicas[0].max_rows == 2
    again = await ask_all(pool, [None] * 9)
    assert {result.batch_size for result in again if isinstance(result, Result)} <= {1, 2}


async def test_an_entry_that_does_not_fit_alone_fails_alone_and_the_worker_lives(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FAULTY, fits=0, wait=False)
    await until(lambda: pool.counters["deaths_canary_wrong"] > 0)  # its canary does not fit either
    pool = await make_pool(factory="tests.pool.test_faults:load_fits_nothing")
    with pytest.raises(EntryFailedError) as caught:
        await ask(pool)
    assert caught.value.code == "out_of_memory"
    assert pool.replicas[0].num_deaths == 0


def load_fits_nothing(config: Any, device: str, progress: Any) -> Any:
    """A model without a canary whose memory is full."""
    from tests.pool.faulty import Faulty

    model = Faulty({**config, "fits": 0}, device)
    model.canary = None
    return model


async def test_a_worker_that_keeps_running_out_of_memory_is_replaced(make_pool: MakePool) -> None:
    pool = await make_pool(factory="tests.pool.test_faults:load_fits_nothing", wait=True)
    pid = pool.replicas[0].pid
    for _ in range(3):
        with pytest.raises(EntryFailedError):
            await ask(pool)
    await until(lambda: pool.replicas[0].is_serving and pool.replicas[0].pid != pid)
    assert pool.counters["deaths_stopped"] == 1
    assert pool.replicas[0].num_deaths == 0


async def test_larger_batches_are_tried_again_once_small_ones_fitted_for_a_while(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FAULTY, fits=3, seconds=0.01)
    assert_right(await ask_all(pool, [None] * 9))
    assert pool.replicas[0].max_rows == 2
    for _ in range(64):
        await ask(pool)
    assert pool.replicas[0].max_rows == 4


async def test_a_lost_device_is_not_tried_again_and_the_others_serve(make_pool: MakePool) -> None:
    placements = [Placement(device="cuda:0"), Placement(device="cuda:1")]
    pool = await make_pool(factory=FAULTY, placements=placements, lost=["cuda:1"], wait=False)
    await until(lambda: [r.state for r in pool.replicas] == [State.READY, State.STOPPED])
    assert pool.counters["deaths_device_lost"] == 1
    assert (await ask(pool)).replica == 0
    assert pool.state == "ready"


async def test_a_worker_that_answers_wrongly_after_a_fault_is_replaced_before_it_answers_anyone(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(factory=FAULTY, limits=Limits(max_batch_size=1), seconds=0.02)
    results = await ask_all(pool, [None, "corrupt", None, None, None])
    assert_right([result for number, result in enumerate(results) if number != 1][:1])
    assert pool.counters["deaths_canary_wrong"] == 1
    for number, result in enumerate(results[2:], 2):
        assert isinstance(result, Result)
        assert json.loads(result.payload)["crc"] == crc(number)


async def test_a_fresh_worker_that_answers_wrongly_never_serves(make_pool: MakePool, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    pool = await make_pool(2, factory=FAULTY, wrong_while=str(wrong))
    wrong.touch()
    replica = pool.replicas[0]
    os.kill(replica.pid or 0, signal.SIGKILL)
    await until(lambda: pool.counters["deaths_canary_wrong"] >= 1)
    wrong.unlink()
    await until(lambda: replica.is_serving)
    assert_right(await ask_all(pool, [None] * 4))


async def test_an_idle_worker_that_went_wrong_is_found_without_users(
    make_pool: MakePool, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    pool = await make_pool(factory=FAULTY, limits=Limits(canary_interval=0.2), wrong_while=str(wrong))
    wrong.touch()
    await until(lambda: pool.counters["deaths_canary_wrong"] >= 1)
    wrong.unlink()
    await until(lambda: pool.replicas[0].is_serving)


async def test_an_idle_worker_that_froze_is_found_without_users(make_pool: MakePool) -> None:
    limits = Limits(canary_interval=0.2, first_batch_timeout=0.3)
    pool = await make_pool(factory=FAULTY, limits=limits)
    pid = pool.replicas[0].pid or 0
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: pool.counters["deaths_frozen"] == 1)
    await until(lambda: pool.replicas[0].is_serving)


async def test_a_busy_pool_is_not_examined(make_pool: MakePool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pool = await make_pool(
        factory=FAULTY, limits=Limits(canary_interval=0.3, max_batch_size=1), seconds=0.02, log=str(log)
    )
    for number in range(50):
        await ask(pool, number, name="user")
    asked = [json.loads(line)["names"] for line in log.read_text().splitlines()]
    assert asked == [["canary"], *[["user"]] * 50]


async def test_a_model_that_holds_the_gil_for_ever_is_found(make_pool: MakePool) -> None:
    limits = Limits(first_batch_timeout=0.5, min_batch_timeout=0.5)
    pool = await make_pool(factory=FAULTY, limits=limits, seconds=0.02)
    assert_right(await ask_all(pool, [None, None, "spin", None]), but=2)
    assert pool.counters["deaths_hang"] >= 2


async def test_a_hang_is_found_by_what_batches_took_before(make_pool: MakePool) -> None:
    limits = Limits(min_batch_timeout=0.3, first_batch_timeout=3600.0, batch_timeout=3600.0)
    pool = await make_pool(limits=limits)
    await ask(pool)
    with pytest.raises(EntryFailedError):
        await ask(pool, do="hang")
    assert pool.counters["deaths_hang"] == 2


async def test_an_input_is_given_up_for_hanging_only_after_a_run_with_twice_the_time(
    make_pool: MakePool,
) -> None:
    limits = Limits(min_batch_timeout=1.0)
    pool = await make_pool(limits=limits)
    await ask(pool)
    result = await ask(pool, do="sleep", seconds=1.5)
    assert result.num_replays == 1
    assert pool.counters["deaths_hang"] == 1


async def test_an_input_is_not_blamed_for_a_worker_that_was_frozen(make_pool: MakePool) -> None:
    limits = Limits(first_batch_timeout=0.4, min_batch_timeout=0.4)
    pool = await make_pool(limits=limits, seconds=0.1)
    task = asyncio.create_task(ask(pool, 1, deadline=soon(60)))
    for deaths in range(1, 4):
        await until(lambda: bool(pool.replicas[0].in_flight))
        os.kill(pool.replicas[0].pid or 0, signal.SIGSTOP)
        await until(lambda deaths=deaths: pool.counters["deaths_frozen"] == deaths)
    assert (await task).num_replays == 3


async def test_what_killed_its_workers_kills_none_when_it_comes_again(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(quarantine_time=1.0))
    with pytest.raises(EntryFailedError):
        await ask(pool, 1, do="segfault")
    deaths = pool.replicas[0].num_deaths
    assert deaths == 2
    for _ in range(3):
        with pytest.raises(EntryFailedError) as caught:
            await ask(pool, 1, do="segfault")
        assert caught.value.code == "image_unprocessable"
    assert pool.replicas[0].num_deaths == deaths
    assert pool.counters["quarantined"] == 3
    assert json.loads((await ask(pool, 1)).payload)["crc"] == crc(1), "asked otherwise it is harmless"
    assert json.loads((await ask(pool, 2)).payload)["crc"] == crc(2)
    await asyncio.sleep(1.0)
    with pytest.raises(EntryFailedError):
        await ask(pool, 1, do="segfault")
    assert pool.replicas[0].num_deaths == deaths + 2, "it is held for a while only"


async def test_a_worker_that_does_not_end_after_its_canary_is_killed(make_pool: MakePool) -> None:
    limits = Limits(canary_interval=0.2, stop_timeout=0.5)
    pool = await make_pool(factory=FAULTY, limits=limits, seconds=0.3, stuck_at_exit=True)
    await until(lambda: pool.replicas[0].examination is not None)
    async with asyncio.timeout(20):
        await pool.stop()
    assert pool.counters["deaths_stop_timeout"] == 1


async def test_the_first_batch_of_a_fresh_worker_has_the_time_that_the_first_one_took(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(factory=FAULTY, limits=Limits(min_batch_timeout=0.3), first_seconds=0.8)
    for _ in range(80):  # after which a fast batch is all that is remembered
        await ask(pool)
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    assert json.loads((await ask(pool, 1)).payload)["crc"] == crc(1)
    assert pool.counters["deaths_hang"] == 0


async def test_a_worker_stays_that_runs_out_of_memory_only_where_more_is_tried(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FAULTY, fits=3)
    for num_fitting in (64, 64, 128, 256):
        assert_right(await ask_all(pool, [None] * 17))
        assert pool.replicas[0].max_rows == 2
        await ask_all_in_turn(pool, num_fitting)
    assert pool.replicas[0].max_rows == 4
    assert pool.counters["deaths_stopped"] == 0


async def ask_all_in_turn(pool: Pool, num_requests: int) -> None:
    """One at a time, so that none shares a batch."""
    for _ in range(num_requests):
        await ask(pool)


async def test_what_hangs_for_longer_than_its_client_waits_is_known_when_it_comes_again(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(limits=Limits(min_batch_timeout=0.4))
    await ask(pool)
    with pytest.raises(DeadlineExceededError):
        await ask(pool, 1, do="hang", deadline=soon(0.8))
    await until(lambda: pool.counters["deaths_hang"] == 2)
    with pytest.raises(EntryFailedError):
        await ask(pool, 1, do="hang")
    assert pool.counters["deaths_hang"] == 2


async def test_whoever_waits_with_a_condemned_input_is_told_so_and_kills_nobody(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.02)
    same = [ask(pool, 1, do="segfault", deadline=soon(60)) for _ in range(12)]
    others = [ask(pool, number, deadline=soon(60)) for number in range(4)]
    results = await asyncio.gather(*same, *others, return_exceptions=True)
    assert all(isinstance(result, EntryFailedError) for result in results[:12])
    assert_right(results[12:])
    assert pool.replicas[0].num_deaths <= 5, "alone, with its like twice, alone twice"
    assert pool.counters["poison"] == 1


async def test_many_killers_at_once_do_not_take_the_model_from_the_others(make_pool: MakePool) -> None:
    pool = await make_pool(2, seconds=0.02)
    killers = [asyncio.create_task(ask(pool, n, do="segfault", deadline=soon(60))) for n in range(8)]
    number = 100
    while not all(killer.done() for killer in killers):
        result = await ask(pool, number)
        assert json.loads(result.payload)["crc"] == crc(number)
        number += 1
    results = await asyncio.gather(*killers, return_exceptions=True)
    assert all(isinstance(r, EntryFailedError) and r.code == "image_unprocessable" for r in results)
