from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from pool import (
    CoreBudget,
    DeadlineExceededError,
    EntryFailedError,
    Limits,
    LoadFailedError,
    ModelLoadingError,
    Placement,
    PoolStoppedError,
    QueueFullError,
    Result,
    place,
)
from pool.replica import State
from pool.slab import Slab
from tests.pool.conftest import MakePool, ask, picture, soon, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def crc(number: int) -> int:
    return zlib.crc32(picture(number).tobytes())


async def test_a_request_is_answered_for_its_own_picture(make_pool: MakePool) -> None:
    pool = await make_pool()
    result = await ask(pool, 7)
    answer = json.loads(result.payload)
    assert answer["crc"] == crc(7)
    assert not answer["writable"]
    assert result.batch_size == 1
    assert result.num_replays == 0
    assert set(result.timings) == {"queue", "infer", "post"}


@pytest.mark.parametrize("max_in_flight", [1, 2])
async def test_every_one_of_many_is_answered_for_its_own_picture(
    make_pool: MakePool, max_in_flight: int
) -> None:
    pool = await make_pool(2, limits=Limits(max_batch_size=4, max_in_flight=max_in_flight), seconds=0.002)
    results = await asyncio.gather(*(ask(pool, i) for i in range(100)))
    assert [json.loads(r.payload)["crc"] for r in results] == [crc(i) for i in range(100)]
    assert {r.replica for r in results} == {0, 1}
    assert max(r.batch_size for r in results) == 4


MINDS = "tests.pool.fakes:load_minds"


async def test_a_batch_is_no_larger_than_the_model_gains_from(make_pool: MakePool) -> None:
    pool = await make_pool(factory=MINDS, limits=Limits(max_batch_size=8), seconds=0.05)
    results = await asyncio.gather(*(ask(pool, i) for i in range(9)))
    assert sorted(json.loads(r.payload)["rows"] for r in results) == [1, *[2] * 8]


async def test_one_that_needs_more_rows_than_the_model_gains_from_runs_alone(make_pool: MakePool) -> None:
    pool = await make_pool(factory=MINDS, limits=Limits(max_batch_size=8), seconds=0.05)
    asked = (ask(pool, i, cost=cost) for i, cost in enumerate((1, 5, 1)))
    assert [json.loads(r.payload)["rows"] for r in await asyncio.gather(*asked)] == [1, 1, 1]


async def test_a_batch_has_the_pool_to_itself_only_while_nothing_else_runs_or_waits(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(2, factory=MINDS, limits=Limits(max_batch_size=1), seconds=0.1)
    for number in range(3):
        assert json.loads((await ask(pool, number)).payload)["is_alone"]
    results = await asyncio.gather(*(ask(pool, i) for i in range(4)))
    # the first found nothing, the second ran beside it, and those that waited were not alone unless they came last
    assert [json.loads(r.payload)["is_alone"] for r in results[:3]] == [True, False, False]


async def test_what_waits_while_a_replica_is_busy_makes_one_batch(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_batch_size=8), seconds=0.05)
    results = await asyncio.gather(*(ask(pool, i) for i in range(9)))
    assert sorted(r.batch_size for r in results) == [1] + [8] * 8


async def test_a_second_batch_is_given_out_early_only_at_depth_two(make_pool: MakePool) -> None:
    for depth in (1, 2):
        pool = await make_pool(limits=Limits(max_batch_size=1, max_in_flight=depth), seconds=0.1)
        tasks = [asyncio.create_task(ask(pool, i)) for i in range(4)]
        await until(lambda pool=pool: pool.snapshot()["queue_length"] + pool.snapshot()["in_flight"] == 4)
        assert pool.snapshot()["in_flight"] == depth
        await asyncio.gather(*tasks)


async def test_a_short_batch_is_held_back_only_for_the_queue_delay(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_batch_size=4, max_queue_delay=0.2))
    results = await asyncio.gather(*(ask(pool, i) for i in range(3)))
    assert [r.batch_size for r in results] == [3, 3, 3]
    assert all(r.timings["queue"] >= 0.15 for r in results)
    full = await asyncio.gather(*(ask(pool, i) for i in range(4)))
    assert all(r.timings["queue"] < 0.15 for r in full)


async def test_entries_with_different_batch_keys_never_share_a_batch(
    make_pool: MakePool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    pool = await make_pool(log=str(log), seconds=0.02)
    await asyncio.gather(*(ask(pool, i, key=f"k{i % 3}", batch_key=f"k{i % 3}") for i in range(30)))
    batches = [json.loads(line)["keys"] for line in log.read_text().splitlines()]
    assert all(len(set(keys)) == 1 for keys in batches)
    assert max(map(len, batches)) > 1


async def test_cost_counts_against_the_batch_size(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_batch_size=8), seconds=0.02)
    results = await asyncio.gather(*(ask(pool, i, cost=4) for i in range(9)), ask(pool, 99, cost=20))
    assert sorted(r.batch_size for r in results)[-1] == 2
    assert results[-1].batch_size == 1


async def test_entries_about_the_same_thing_run_on_the_replica_that_has_seen_it(make_pool: MakePool) -> None:
    pool = await make_pool(3, seconds=0.01)
    firsts = [await ask(pool, i, affinity=f"a{i}") for i in range(6)]
    assert {r.replica for r in firsts} == {0, 1, 2}
    for _ in range(3):
        again = await asyncio.gather(*(ask(pool, i, affinity=f"a{i}") for i in range(6)))
        assert [r.replica for r in again] == [r.replica for r in firsts]


async def test_a_preferred_replica_is_waited_for_at_most_one_batch_time(make_pool: MakePool) -> None:
    pool = await make_pool(2, limits=Limits(max_batch_size=1), seconds=0.05)
    first = await ask(pool, affinity="a")
    busy = asyncio.create_task(ask(pool, do="sleep", seconds=1.0, affinity="a"))
    await until(lambda: bool(pool.replicas[first.replica].in_flight))
    other = await ask(pool, 1, affinity="a")
    assert not busy.done()
    assert other.replica != first.replica
    assert other.timings["queue"] >= 0.04
    assert (await ask(pool, 2, affinity="a")).replica == other.replica
    await busy


async def test_others_pass_those_that_wait_for_their_replica(make_pool: MakePool) -> None:
    pool = await make_pool(2, limits=Limits(max_batch_size=1), seconds=0.2)
    first = await ask(pool, affinity="a")
    tasks = [asyncio.create_task(ask(pool, affinity="a")) for _ in range(2)]
    await until(lambda: pool.snapshot()["in_flight"] == 1 and pool.snapshot()["queue_length"] == 1)
    stranger = await ask(pool, 3)
    assert stranger.replica != first.replica
    assert not tasks[1].done()
    await asyncio.gather(*tasks)


async def test_a_replica_whose_worker_died_is_not_preferred_any_more(make_pool: MakePool) -> None:
    pool = await make_pool(2)
    firsts = [await ask(pool, affinity="a") for _ in range(3)]
    assert len({r.replica for r in firsts}) == 1
    replica = pool.replicas[firsts[0].replica]
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGKILL)
    await until(lambda: replica.num_deaths == 1 and replica.is_serving)
    assert (await ask(pool, affinity="a")).replica != replica.index, "the one that has done less is next"


async def test_one_failing_row_does_not_fail_its_batch(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.02)
    results = await asyncio.gather(
        *(ask(pool, i, do="raise" if i == 3 else None) for i in range(8)), return_exceptions=True
    )
    failed = results.pop(3)
    assert isinstance(failed, EntryFailedError)
    assert failed.code == "internal"
    assert all(not isinstance(r, BaseException) for r in results)
    assert pool.counters["batches"] <= 3
    assert pool.replicas[0].num_deaths == 0


async def test_a_model_chooses_the_word_its_caller_gets(make_pool: MakePool) -> None:
    pool = await make_pool()
    with pytest.raises(EntryFailedError) as caught:
        await ask(pool, do="refuse")
    assert caught.value.code == "refused"


async def test_a_result_over_the_limit_fails_alone(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_result_bytes=1_000_000), seconds=0.02)
    large, too_large, normal = await asyncio.gather(
        ask(pool, do="large", size=900_000),
        ask(pool, do="large", size=1_100_000),
        ask(pool, 5),
        return_exceptions=True,
    )
    assert not isinstance(large, BaseException)
    assert len(large.payload) > 900_000
    assert isinstance(too_large, EntryFailedError)
    assert too_large.code == "result_too_large"
    assert not isinstance(normal, BaseException)


@pytest.mark.parametrize("max_in_flight", [1, 2])
async def test_nobody_fails_when_a_worker_is_killed(make_pool: MakePool, max_in_flight: int) -> None:
    pool = await make_pool(2, limits=Limits(max_batch_size=4, max_in_flight=max_in_flight), seconds=0.03)
    tasks = [asyncio.create_task(ask(pool, i)) for i in range(60)]
    for _ in range(3):
        await until(lambda: any(r.in_flight for r in pool.replicas))
        victim = next(r for r in pool.replicas if r.in_flight)
        deaths = victim.num_deaths
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        await until(lambda victim=victim, deaths=deaths: victim.num_deaths > deaths)
    results = await asyncio.gather(*tasks)
    assert [json.loads(r.payload)["crc"] for r in results] == [crc(i) for i in range(60)]
    assert sum(r.num_replays for r in results) >= 1
    assert pool.counters["deaths_sigkill"] == 3


async def test_a_pool_of_one_survives_the_death_of_its_only_worker(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.05)
    first_pid = pool.replicas[0].pid
    task = asyncio.create_task(ask(pool, 3))
    await until(lambda: bool(pool.replicas[0].in_flight))
    assert first_pid is not None
    os.kill(first_pid, signal.SIGKILL)
    result = await task
    assert json.loads(result.payload)["crc"] == crc(3)
    assert json.loads(result.payload)["pid"] != first_pid
    assert result.num_replays == 1


async def test_after_a_death_what_was_in_flight_runs_alone(make_pool: MakePool, tmp_path: Path) -> None:
    log, marker = tmp_path / "log", tmp_path / "marker"
    pool = await make_pool(log=str(log), seconds=0.02)
    first = asyncio.create_task(ask(pool, 0, name=0))
    await until(lambda: bool(pool.replicas[0].in_flight))
    names = range(1, 6)
    rest = [
        asyncio.create_task(ask(pool, i, name=i, do="die_once" if i == 2 else None, marker=str(marker)))
        for i in names
    ]
    await asyncio.gather(first, *rest)
    batches = [json.loads(line)["names"] for line in log.read_text().splitlines()]
    assert batches == [[0], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]


async def test_an_input_that_kills_twice_alone_is_condemned_and_its_batch_mates_are_not(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(seconds=0.02)
    tasks = [asyncio.create_task(ask(pool, i, do="segfault" if i == 4 else None)) for i in range(8)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    poison = results.pop(4)
    assert isinstance(poison, EntryFailedError)
    assert poison.code == "image_unprocessable"
    assert all(not isinstance(r, BaseException) for r in results)
    assert pool.replicas[0].num_deaths <= 3


async def test_a_plain_sigkill_condemns_nobody(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.1)
    task = asyncio.create_task(ask(pool, 1, deadline=soon(60)))
    for deaths in range(1, 4):
        await until(lambda: bool(pool.replicas[0].in_flight))
        os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
        await until(lambda deaths=deaths: pool.replicas[0].num_deaths == deaths)
    assert (await task).num_replays == 3


async def test_a_hanging_worker_is_killed_and_its_batch_mates_answered(
    make_pool: MakePool, tmp_path: Path
) -> None:
    limits = Limits(batch_timeout=0.4)
    pool = await make_pool(limits=limits, seconds=0.02)
    tasks = [asyncio.create_task(ask(pool, i, do="hang" if i == 2 else None)) for i in range(4)]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    hung = results.pop(2)
    assert isinstance(hung, EntryFailedError)
    assert hung.code == "image_unprocessable"
    assert all(not isinstance(r, BaseException) for r in results)
    assert pool.counters["deaths_hang"] >= 2


async def test_a_stopped_process_is_found_and_replaced(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(batch_timeout=0.5))
    os.kill(pool.replicas[0].pid or 0, signal.SIGSTOP)
    result = await ask(pool, 1)
    assert json.loads(result.payload)["crc"] == crc(1)
    assert pool.counters["deaths_frozen"] == 1


@pytest.mark.parametrize("max_in_flight", [1, 2])
async def test_the_second_batch_is_not_timed_while_the_first_runs(
    make_pool: MakePool, max_in_flight: int
) -> None:
    limits = Limits(batch_timeout=1.0, max_batch_size=1, max_in_flight=max_in_flight)
    pool = await make_pool(limits=limits, seconds=0.4)
    await asyncio.gather(*(ask(pool, i) for i in range(6)))
    assert pool.replicas[0].num_deaths == 0


async def test_an_entry_past_its_deadline_is_never_run(make_pool: MakePool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pool = await make_pool(log=str(log), seconds=0.3, limits=Limits(max_batch_size=1))
    first = asyncio.create_task(ask(pool, 0, name="first"))
    await until(lambda: bool(pool.replicas[0].in_flight))
    with pytest.raises(DeadlineExceededError):
        await ask(pool, 1, deadline=soon(0.1), name="late")
    await first
    await ask(pool, 2, name="last")
    assert [json.loads(line)["names"] for line in log.read_text().splitlines()] == [["first"], ["last"]]


async def test_a_client_that_leaves_the_queue_frees_its_slot_at_once(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.3, limits=Limits(max_batch_size=1))
    running, waiting = asyncio.create_task(ask(pool, 0)), asyncio.create_task(ask(pool, 1))
    await until(lambda: pool.snapshot()["queue_length"] == 1)
    total = pool.snapshot()["slots"]["total"]
    waiting.cancel()
    await until(lambda: pool.snapshot()["queue_length"] == 0)
    assert pool.snapshot()["slots"]["free"] == total - 1
    await running


async def test_the_slot_of_a_running_entry_is_kept_until_the_worker_is_done(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.3)
    running = asyncio.create_task(ask(pool, 0))
    await until(lambda: bool(pool.replicas[0].in_flight))
    total = pool.snapshot()["slots"]["total"]
    running.cancel()
    await until(running.done)
    assert pool.snapshot()["slots"]["free"] == total - 1
    await until(lambda: pool.snapshot()["slots"]["free"] == total)
    assert pool.counters["batches"] == 1


async def test_a_slot_is_not_reused_before_its_worker_is_dead(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(batch_timeout=0.5))
    running = asyncio.create_task(ask(pool, 0, do="hang"))
    await until(lambda: bool(pool.replicas[0].in_flight))
    total = pool.snapshot()["slots"]["total"]
    running.cancel()
    await until(running.done)
    assert pool.snapshot()["slots"]["free"] == total - 1
    await until(lambda: pool.replicas[0].num_deaths == 1)
    assert pool.snapshot()["slots"]["free"] == total


async def test_a_full_queue_refuses_and_says_when_to_come_back(make_pool: MakePool) -> None:
    limits = Limits(max_batch_size=1, max_queue_size=4)
    pool = await make_pool(seconds=0.05, limits=limits)
    await ask(pool, 0)  # now the rate is known
    results = await asyncio.gather(*(ask(pool, i) for i in range(40)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, QueueFullError)]
    assert refused
    assert all(0 < r.retry_after < 5 for r in refused)
    assert len(results) - len(refused) >= 5
    assert all(isinstance(r, QueueFullError) for r in results if isinstance(r, BaseException))


async def test_a_wait_longer_than_the_deadline_is_refused_before_it_begins(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.1, limits=Limits(max_batch_size=1))
    await ask(pool, 0)
    tasks = [asyncio.create_task(ask(pool, i)) for i in range(20)]
    await until(lambda: pool.snapshot()["queue_length"] >= 18)
    with pytest.raises(QueueFullError):
        await ask(pool, 99, deadline=soon(0.5))
    await asyncio.gather(*tasks)


async def test_a_request_that_comes_early_waits_without_a_slot(make_pool: MakePool) -> None:
    pool = await make_pool(wait=False, load_seconds=0.3)
    task = asyncio.create_task(ask(pool, 5))
    await until(lambda: pool.snapshot()["progress"] is not None)
    assert pool.state == "loading"
    assert pool.snapshot()["slots"]["total"] == 0
    assert json.loads((await task).payload)["crc"] == crc(5)
    assert pool.snapshot()["progress"] is None


async def test_a_deadline_while_loading_says_loading(make_pool: MakePool) -> None:
    pool = await make_pool(wait=False, load_seconds=1.0)
    with pytest.raises(ModelLoadingError):
        await ask(pool, deadline=soon(0.1))


async def test_a_load_that_fails_once_is_tried_again(make_pool: MakePool, tmp_path: Path) -> None:
    pool = await make_pool(wait=False, fail_load="once", marker=str(tmp_path / "marker"))
    await until(lambda: pool.is_ready)
    await ask(pool)
    assert pool.snapshot()["error"] is None


async def test_a_load_that_fails_for_good_stops_and_says_why(make_pool: MakePool) -> None:
    for fail, deaths in (("permanent", 1), ("always", 3)):
        pool = await make_pool(wait=False, fail_load=fail)
        with pytest.raises(LoadFailedError) as caught:
            await ask(pool)
        assert caught.value.code == "weights_unavailable"
        await until(lambda pool=pool: pool.state == "failed")
        assert pool.replicas[0].num_deaths == deaths
        with pytest.raises(LoadFailedError):
            await ask(pool)


async def test_a_worker_that_loads_for_ever_is_killed(make_pool: MakePool) -> None:
    pool = await make_pool(wait=False, load_seconds=3600, limits=Limits(start_timeout=0.5))
    await until(lambda: pool.counters["deaths_start_timeout"] >= 1)


async def test_a_crash_while_loading_backs_off(make_pool: MakePool) -> None:
    pool = await make_pool(wait=False, factory="tests.pool.fakes:load_dies")
    await until(lambda: pool.replicas[0].num_deaths >= 3)
    assert pool.counters["deaths_exit_3"] == pool.replicas[0].num_deaths
    assert pool.state == "loading"


async def test_stop_answers_what_is_there_and_refuses_what_comes(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.1, limits=Limits(max_batch_size=1))
    tasks = [asyncio.create_task(ask(pool, i)) for i in range(5)]
    await until(lambda: pool.snapshot()["queue_length"] == 4)
    stopping = asyncio.create_task(pool.stop())
    await until(lambda: pool.state == "draining")
    with pytest.raises(PoolStoppedError):
        await ask(pool)
    results = await asyncio.gather(*tasks)
    assert [json.loads(r.payload)["crc"] for r in results] == [crc(i) for i in range(5)]
    await stopping
    assert pool.state == "stopped"


async def test_a_worker_that_dies_while_draining_loses_nobody(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.3)
    task = asyncio.create_task(ask(pool, 2))
    await until(lambda: bool(pool.replicas[0].in_flight))
    stopping = asyncio.create_task(pool.stop())
    await until(lambda: pool.state == "draining")
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    assert json.loads((await task).payload)["crc"] == crc(2)
    await stopping


async def test_a_drain_that_takes_too_long_says_so_and_ends(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(stop_timeout=0.2))
    task = asyncio.create_task(ask(pool, do="hang"))
    await until(lambda: bool(pool.replicas[0].in_flight))
    started = time.monotonic()
    await pool.stop(drain_timeout=0.1)
    with pytest.raises(PoolStoppedError):
        await task
    assert time.monotonic() - started < 10


async def test_a_worker_sees_its_own_cores_threads_and_devices(make_pool: MakePool) -> None:
    core = min(os.sched_getaffinity(0))
    environment = {"OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "GPU-x"}
    pool = await make_pool(placements=[Placement("cuda:0", (core,), 3, environment)])
    assert pool.spec is not None
    assert pool.spec["cores"] == [core]
    assert pool.spec["num_threads"] == 3
    assert (pool.spec["omp"], pool.spec["cuda"], pool.spec["device"]) == ("3", "GPU-x", "cuda:0")


async def test_a_worker_without_cores_of_its_own_runs_anywhere_and_knows_how_many_it_may_use(
    make_pool: MakePool,
) -> None:
    placements = place(["cpu"], 1, CoreBudget(3), num_threads=2)
    pool = await make_pool(placements=list(placements))
    assert pool.spec is not None
    assert pool.spec["cores"] == sorted(os.sched_getaffinity(0))
    assert (pool.spec["num_threads"], pool.spec["omp"]) == (2, "2")
    assert pool.spec["all_cores"] == [3, []]


async def test_a_core_that_cannot_be_had_leaves_a_slower_worker_not_a_dead_one(make_pool: MakePool) -> None:
    pool = await make_pool(placements=[Placement(cores=(4000,))])
    assert json.loads((await ask(pool, 1)).payload)["crc"] == crc(1)


async def test_a_slab_that_does_not_fit_is_refused_clearly(make_pool: MakePool) -> None:
    pool = await make_pool(wait=False, slot_shape=[1 << 20, 1 << 20, 3])
    with pytest.raises(LoadFailedError) as caught:
        await ask(pool)
    assert caught.value.code == "not_enough_memory"


async def test_repr_tells_what_operators_need(make_pool: MakePool) -> None:
    pool = await make_pool()
    assert repr(pool) == "<Pool fake ready 0/1 busy queue=0>"
    assert repr(pool.replicas[0]) == "<Replica 0 cpu READY in_flight=0>"


async def test_parameters_that_are_not_json_fail_their_caller_and_nobody_else(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.05)
    first = asyncio.create_task(ask(pool, 0))
    await until(lambda: bool(pool.replicas[0].in_flight))
    wrong: list[dict[str, Any]] = [{"confidence": float("nan")}, {"classes": {1}}]
    tasks = [asyncio.create_task(ask(pool, i, **options)) for i, options in enumerate([*wrong, {}, {}])]
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert isinstance(results[1], ValueError)
    assert isinstance(results[2], TypeError)
    assert all(isinstance(r, Result) for r in (results[0], *results[3:]))
    await until(lambda: pool.is_idle)


async def test_a_cost_below_one_is_refused(make_pool: MakePool) -> None:
    pool = await make_pool()
    with pytest.raises(ValueError, match="cost"):
        await ask(pool, cost=0)


def num_mapped_slabs() -> int:
    gc.collect()  # slabs of earlier tests, kept by their tracebacks
    return Path("/proc/self/maps").read_text().count("memfd:slab")


async def test_a_stopped_pool_has_given_its_memory_back_even_if_it_is_kept(make_pool: MakePool) -> None:
    before = num_mapped_slabs()
    pool = await make_pool()
    await ask(pool)
    assert num_mapped_slabs() == before + 1
    await pool.stop()
    assert num_mapped_slabs() == before
    assert pool.snapshot()["slots"] == {"total": 0, "free": 0}


async def test_others_are_served_while_a_slab_is_allocated(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, allowed = threading.Event(), threading.Event()

    def slow_slab(num_slots: int, slot_shape: list[int], kept_bytes: int | None) -> Slab:
        entered.set()
        assert allowed.wait(10)
        return Slab(num_slots, slot_shape, kept_bytes=kept_bytes)

    serving = await make_pool()
    monkeypatch.setattr("pool.pool.Slab", slow_slab)
    loading = await make_pool(2, wait=False)
    await until(entered.is_set)
    assert json.loads((await ask(serving, 3)).payload)["crc"] == crc(3)
    assert loading.state == "loading"
    allowed.set()
    await until(lambda: all(r.is_serving for r in loading.replicas))
    assert json.loads((await ask(loading, 4)).payload)["crc"] == crc(4)


async def test_a_stop_while_a_slab_is_allocated_leaves_nothing(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, allowed, before = threading.Event(), threading.Event(), num_mapped_slabs()

    def slow_slab(num_slots: int, slot_shape: list[int], kept_bytes: int | None) -> Slab:
        entered.set()
        assert allowed.wait(10)
        return Slab(num_slots, slot_shape, kept_bytes=kept_bytes)

    monkeypatch.setattr("pool.pool.Slab", slow_slab)
    pool = await make_pool(wait=False)
    await until(entered.is_set)
    stopping = asyncio.create_task(pool.stop())
    await until(lambda: pool.replicas[0].state is State.DEAD)
    allowed.set()
    await stopping
    assert pool.state == "stopped"
    assert num_mapped_slabs() == before
