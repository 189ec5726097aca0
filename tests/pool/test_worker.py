from __future__ import annotations

import json
import zlib

import pytest

from tests.pool.conftest import MakePool, ask, picture

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_timings_that_json_cannot_say_cost_the_timing_not_the_worker(make_pool: MakePool) -> None:
    pool = await make_pool(odd_timings=True)
    result = await ask(pool, 3)
    assert json.loads(result.payload)["crc"] == zlib.crc32(picture(3).tobytes())
    assert (result.timings["infer"], result.timings["post"]) == (0.5, 0.0)
    assert pool.replicas[0].num_deaths == 0


async def test_progress_told_from_several_threads_at_once_arrives_whole(make_pool: MakePool) -> None:
    pool = await make_pool(chatty=True)
    await ask(pool, 3)
    assert pool.replicas[0].num_deaths == 0
