"""The faults of test_faults.py, real ones: needs a GPU."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pool import EntryFailedError, Launcher, Limits, Placement, Result
from tests.pool.conftest import MakePool, ask
from tests.pool.test_pool import crc

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.gpu]

FACTORY = "tests.pool.cuda_faults:load"
GPU = [Placement(device="cuda:0")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    """One that has torch."""
    launcher = Launcher(["torch", "tests.pool.cuda_faults"], {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"})
    yield launcher
    launcher.close()


async def _ask_all(pool: object, todo: list[str | None]) -> list[Result | BaseException]:
    asked = (ask(pool, number, do=do) for number, do in enumerate(todo))  # type: ignore[arg-type]
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_a_device_side_assert_costs_a_process_and_only_its_culprit_an_answer(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(factory=FACTORY, placements=GPU)
    results = await _ask_all(pool, [None, None, "assert", None])
    culprit = results.pop(2)
    assert isinstance(culprit, EntryFailedError)
    assert culprit.code == "image_unprocessable"
    for number, result in zip((0, 1, 3), results, strict=True):
        assert isinstance(result, Result)
        assert json.loads(result.payload)["crc"] == crc(number)
    assert pool.counters["deaths_device_fault"] >= 2


async def test_of_two_batches_under_way_the_culprit_of_an_assert_is_found(make_pool: MakePool) -> None:
    limits = Limits(max_batch_size=1, max_in_flight=2)
    pool = await make_pool(factory="tests.pool.cuda_faults:load_later", placements=GPU, limits=limits)
    results = await _ask_all(pool, [None, None, "assert", None, None])
    culprit = results.pop(2)
    assert isinstance(culprit, EntryFailedError)
    assert culprit.code == "image_unprocessable"
    for number, result in zip((0, 1, 3, 4), results, strict=True):
        assert isinstance(result, Result)
        assert json.loads(result.payload)["crc"] == crc(number)
    assert pool.counters["deaths_device_fault"] >= 2


async def test_a_full_gpu_makes_smaller_batches_and_the_worker_lives(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FACTORY, placements=GPU)
    results = await _ask_all(pool, ["fill_together"] * 8)
    assert all(isinstance(result, Result) for result in results)
    assert pool.replicas[0].num_deaths == 0


async def test_one_image_too_large_for_the_gpu_fails_alone_and_the_worker_lives(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FACTORY, placements=GPU)
    with pytest.raises(EntryFailedError) as caught:
        await ask(pool, do="fill")
    assert caught.value.code == "out_of_memory"
    assert json.loads((await ask(pool, 3)).payload)["crc"] == crc(3)
    assert pool.replicas[0].num_deaths == 0
