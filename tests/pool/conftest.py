"""Pools on fake models, in real processes."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import numpy as np
import pytest
import pytest_asyncio

from pool import Launcher, Limits, Placement, Pool, Result


class MakePool(Protocol):
    async def __call__(
        self,
        num_replicas: int = ...,
        factory: str = ...,
        limits: Limits | None = ...,
        wait: bool = ...,
        placements: list[Placement] | None = ...,
        **config: Any,
    ) -> Pool: ...


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for a state; a state that never comes is the failure."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached"
        await asyncio.sleep(0.005)


def soon(seconds: float = 20.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A small picture unlike any other number's."""
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)


async def ask(pool: Pool, number: int = 0, deadline: float | None = None, **options: Any) -> Result:
    """One request, from lease to result. `batch_key`, `cost` and `affinity` go to the pool, the rest are parameters."""
    deadline = soon() if deadline is None else deadline
    of_pool = {name: options.pop(name) for name in ("batch_key", "cost", "affinity") if name in options}
    with await pool.lease(deadline) as lease:
        lease.pixels[:] = picture(number)
        return await pool.infer(lease, options, deadline, **of_pool)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    """One forkserver for all tests of a file."""
    launcher = Launcher(preload=["tests.pool.fakes"])
    yield launcher
    launcher.close()


@pytest_asyncio.fixture(loop_scope="module")
async def make_pool(launcher: Launcher) -> AsyncIterator[MakePool]:
    """Makes started pools; at the end every slot must be free and every process gone."""
    pools: list[Pool] = []

    async def make(
        num_replicas: int = 1,
        factory: str = "tests.pool.fakes:load",
        limits: Limits | None = None,
        wait: bool = True,
        placements: list[Placement] | None = None,
        **config: Any,
    ) -> Pool:
        pool = Pool("fake", factory, config, placements or [Placement()] * num_replicas, launcher, limits)
        pools.append(pool)
        await pool.start()
        if wait:
            await until(lambda: all(r.is_serving for r in pool.replicas))
        return pool

    yield make
    for pool in pools:
        await until(lambda pool=pool: pool.is_idle)  # type: ignore[misc]
        pids = [r.pid for r in pool.replicas if r.pid is not None]
        await pool.stop(drain_timeout=5.0)
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert pool.state in ("stopped", "failed")
