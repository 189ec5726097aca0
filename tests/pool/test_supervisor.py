from __future__ import annotations

import asyncio
import json
import os
import signal
import zlib
from pathlib import Path

import pytest

from pool import EntryFailedError
from tests.pool.conftest import MakePool, ask, picture, until
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
    pool = await make_pool()
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
