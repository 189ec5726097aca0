"""Order, bounds and ends of what runs at once; the progress line with its clock passed in."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from server.predict.ordered import WINDOW, in_order
from server.predict.progress import Lines


async def test_results_come_in_order_and_no_more_run_at_once_than_allowed() -> None:
    running = most = 0
    taken: list[int] = []

    async def work(item: int) -> int:
        nonlocal running, most
        taken.append(item)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02 if item % 3 == 1 else 0)
        running -= 1
        return -item

    assert [each async for each in in_order(iter(range(1, 40)), work, 4)] == [-item for item in range(1, 40)]
    assert most == 4 and sorted(taken) == list(range(1, 40))


async def test_one_slow_item_holds_back_a_bounded_number() -> None:
    gate = asyncio.Event()
    begun: list[int] = []

    async def work(item: int) -> int:
        begun.append(item)
        if item == 1:
            await gate.wait()
        return item

    results = in_order(iter(range(1, 1000)), work, 2)
    first = asyncio.ensure_future(anext(results))
    bound = 2 * WINDOW + 4
    deadline = asyncio.get_running_loop().time() + 10
    while len(begun) < 2 * WINDOW:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # it must not go on; a failure would be seen here, not a success
    assert len(begun) <= bound
    gate.set()
    assert await first == 1
    await results.aclose()


async def test_an_error_ends_what_is_under_way() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> int:
        if item == 1:
            raise ValueError("one")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise
        return item

    async def slow_start(item: int) -> int:
        await asyncio.sleep(0.05)
        return await work(item)

    async with contextlib.aclosing(in_order(iter([1, 2, 3]), slow_start, 3)) as results:
        with pytest.raises(ValueError, match="one"):
            await anext(results)
    assert len(asyncio.all_tasks()) == 1


def test_lines_come_now_and_then_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    lines = Lines(lambda: now)
    for moment, done in ((5.0, 10), (10.0, 20), (12.0, 24), (20.0, 50)):
        now = moment
        lines.show(done, 1 if done == 50 else 0, 100 if moment > 10 else None)
    assert capsys.readouterr().err.splitlines() == [
        "20 images, 2.0/s", "50 of 100 images, 2.5/s, 20 s left, 1 failed",
    ]  # fmt: skip
