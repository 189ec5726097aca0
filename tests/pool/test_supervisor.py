from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import time
import zlib
from pathlib import Path

import pytest

from pool import EntryFailedError, Launcher, Limits, LoadFailedError, Placement, Pool
from pool import pool as pool_module
from pool.channel import Channel
from pool.replica import State
from pool.slab import Slab
from tests.pool.conftest import MakePool, ask, picture, soon, until
from tests.pool.fakes import _GARBAGE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("garbage", sorted(_GARBAGE))
async def test_a_worker_that_talks_nonsense_is_replaced_and_its_entry_answered(
    make_pool: MakePool, tmp_path: Path, garbage: str
) -> None:
    pool = await make_pool(
        factory="tests.pool.fakes:load_garbles", garbage=garbage, num_times=1, folder=str(tmp_path)
    )
    result = await ask(pool, 11)
    assert json.loads(result.payload)["crc"] == zlib.crc32(picture(11).tobytes())
    assert pool.counters["deaths_protocol_violation"] == 1
    assert result.num_replays == 1


async def test_an_input_answered_with_nonsense_twice_alone_is_given_up(
    make_pool: MakePool, tmp_path: Path
) -> None:
    pool = await make_pool(
        factory="tests.pool.fakes:load_garbles", garbage="noise", num_times=9, folder=str(tmp_path)
    )
    with pytest.raises(EntryFailedError):
        await ask(pool, 11)


async def test_the_reason_of_a_death_is_told_apart(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(breaker_failures=100))
    for do, options, reason in (
        ("die", {"signal": signal.SIGKILL}, "deaths_sigkill"),
        ("die", {"signal": signal.SIGABRT}, "deaths_sigabrt"),
        ("segfault", {}, "deaths_sigsegv"),
        ("exit", {}, "deaths_exit_17"),
    ):
        task = asyncio.create_task(ask(pool, do=do, **options))
        await until(lambda reason=reason: pool.counters[reason] >= 1)
        task.cancel()
        await asyncio.wait([task])
        await until(lambda: pool.is_idle)


async def test_workers_ignore_the_signals_meant_for_the_front(make_pool: MakePool) -> None:
    pool = await make_pool(seconds=0.05)
    task = asyncio.create_task(ask(pool, 1))
    await until(lambda: bool(pool.replicas[0].in_flight))
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pool.replicas[0].pid or 0, number)
    assert (await task).num_replays == 0


async def test_a_worker_is_the_kernels_first_choice_when_memory_runs_out(make_pool: MakePool) -> None:
    pool = await make_pool()
    assert int(Path(f"/proc/{pool.replicas[0].pid}/oom_score_adj").read_text()) == 500


async def test_a_signal_without_a_name_is_a_death_like_any_other(make_pool: MakePool) -> None:
    pool = await make_pool()
    os.kill(pool.replicas[0].pid or 0, signal.SIGRTMIN + 6)
    await until(lambda: pool.replicas[0].num_deaths == 1 and pool.is_ready)
    assert pool.counters[f"deaths_signal_{signal.SIGRTMIN + 6}"] == 1
    assert (await ask(pool, 1)).num_replays == 0


async def test_a_worker_that_is_being_killed_is_given_nothing_more(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(max_batch_size=1, max_in_flight=2))
    running = asyncio.create_task(ask(pool, 1, do="sleep", seconds=0.3))
    await until(lambda: len(pool.replicas[0].in_flight) == 1)
    pool._supervisors[0].kill("hang")
    assert not pool.is_ready
    assert (await ask(pool, 2)).num_replays == 0
    assert (await running).num_replays == 1


async def test_what_waits_is_not_given_to_a_worker_that_answered_and_died(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_deaf = False
    read = Channel._on_readable
    monkeypatch.setattr(Channel, "_on_readable", lambda channel: None if is_deaf else read(channel))
    pool = await make_pool(limits=Limits(max_batch_size=1, batch_timeout=0.5))
    first = asyncio.create_task(ask(pool, 1, do="sleep", seconds=0.2))
    await until(lambda: bool(pool.replicas[0].in_flight))
    is_deaf = True
    second = asyncio.create_task(ask(pool, 2))
    connection = pool._supervisors[0]._channel._socket  # type: ignore[union-attr]
    await until(lambda: has_answer(connection))
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.replicas[0].num_deaths == 1)
    is_deaf = False
    assert [(await task).num_replays for task in (first, second)] == [0, 0]
    end = soon(0.8)
    while time.monotonic() < end:  # a timer left over from the dead one would kill its successor here
        await ask(pool, 3)
    assert pool.replicas[0].num_deaths == 1


def has_answer(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def test_a_supervisors_bug_costs_a_worker_not_the_replica(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await make_pool(seconds=0.2)
    task = asyncio.create_task(ask(pool, 1))
    await until(lambda: bool(pool.replicas[0].in_flight))
    with monkeypatch.context() as broken:
        broken.setattr("pool.supervisor.explain", lambda *_, **__: 1 / 0)
        os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
        await until(lambda: pool.replicas[0].num_deaths == 1)
    assert (await task).num_replays == 1
    assert pool.counters["deaths_supervisor_failed"] == 1


async def test_a_worker_is_tried_again_when_there_was_no_descriptor_for_it(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await make_pool()

    def no_pair() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as exhausted:
        exhausted.setattr("pool.supervisor.socket.socketpair", no_pair)
        os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
        await until(lambda: pool.counters["deaths_not_launched"] >= 2)
    assert (await ask(pool, 1)).num_replays == 0


async def test_a_forkserver_that_does_not_answer_is_timed_and_does_not_hold_up_a_stop() -> None:
    launcher = Launcher(preload=["tests.pool.fakes"])
    pool = Pool("fake", "tests.pool.fakes:load", {}, [Placement()], launcher, Limits(start_timeout=5.0))
    await pool.start()
    await until(lambda: pool.is_ready)
    assert launcher.pid is not None
    os.kill(launcher.pid, signal.SIGSTOP)
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.replicas[0].state is State.STARTING)
    pool._supervisors[0]._launch_timeout.reschedule(0.0)  # type: ignore[union-attr]
    await until(lambda: pool.counters["deaths_not_launched"] == 1)
    await until(lambda: pool.replicas[0].state is State.STARTING)
    async with asyncio.timeout(4.0):
        await asyncio.gather(pool.stop(), pool.stop())
    assert pool.state == "stopped"
    launcher.close()


async def test_a_worker_is_not_blamed_for_a_front_that_was_late(make_pool: MakePool) -> None:
    pool = await make_pool(limits=Limits(min_batch_timeout=0.4))
    await ask(pool, do="large", size=2_000_000)
    running = asyncio.create_task(ask(pool, do="large", size=2_000_000))
    await until(lambda: bool(pool.replicas[0].in_flight))
    time.sleep(1.0)  # the loop stands still
    assert (await running).num_replays == 0
    assert pool.replicas[0].num_deaths == 0


async def test_the_time_to_start_does_not_count_the_allocation_of_the_slab(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(num_slots: int, slot_shape: list[int], kept_bytes: int | None) -> Slab:
        time.sleep(1.5)
        return Slab(num_slots, slot_shape, kept_bytes=kept_bytes)

    monkeypatch.setattr(pool_module, "Slab", slow)
    pool = await make_pool(limits=Limits(start_timeout=1.0))
    assert pool.replicas[0].num_deaths == 0


async def test_a_pool_whose_supervisor_failed_is_failed_and_not_loading_for_ever(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await make_pool(wait=True)

    def broken(*_: object) -> bytes:
        raise ArithmeticError

    monkeypatch.setattr(pool._judge, "judge", broken)
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.state == "failed")
    with pytest.raises(LoadFailedError):
        await ask(pool)


async def test_parameters_that_cannot_be_compared_are_refused(make_pool: MakePool) -> None:
    pool = await make_pool()
    with pytest.raises(TypeError):
        await ask(pool, odd={1: 1, "b": 2})


async def test_a_forkservers_death_does_not_hold_up_the_many_workers_it_took_along(
    make_pool: MakePool, launcher: Launcher
) -> None:
    pool = await make_pool(6)
    os.kill(launcher.pid or 0, signal.SIGKILL)
    await until(lambda: sum(replica.num_deaths for replica in pool.replicas) == 6)
    await until(lambda: all(replica.is_serving for replica in pool.replicas))


async def test_a_replica_that_cannot_load_while_another_serves_is_tried_until_it_can(
    make_pool: MakePool, tmp_path: Path
) -> None:
    marker = tmp_path / "failed once"
    marker.touch()
    pool = await make_pool(2, limits=Limits(max_load_failures=1), fail_load="once", marker=str(marker))
    marker.unlink()
    replica = pool.replicas[1]
    os.kill(replica.pid or 0, signal.SIGKILL)
    await until(lambda: pool.counters["deaths_load_failed"] == 1)
    await until(lambda: replica.is_serving)
    assert pool.state == "ready"


async def test_one_kill_for_memory_is_laid_to_one_death_only(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    monkeypatch.setattr("pool.oversight.num_oom_kills", lambda: count)
    pool = await make_pool(2)
    pool._oversight.num_oom_kills = 0
    count = 1
    for number, expected in enumerate(({"deaths_oom_kill": 1}, {"deaths_oom_kill": 1, "deaths_sigkill": 1})):
        os.kill(pool.replicas[number].pid or 0, signal.SIGKILL)
        await until(lambda number=number: pool.replicas[number].num_deaths == 1)
        assert {name: num for name, num in pool.counters.items() if name.startswith("deaths")} == expected
