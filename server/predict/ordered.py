"""Some at once, results in the order of what they are of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TypeVar

S = TypeVar("S")
R = TypeVar("R")
WINDOW = 8
"""Results that wait for an earlier one are so many times what runs at once, at most."""


async def in_order(
    items: Iterator[S], work: Callable[[S], Awaitable[R]], num_at_once: int
) -> AsyncGenerator[R, None]:
    """The results of `work`, `num_at_once` of them being made at a time. `items` is gone through in threads, one item
    at a time, no further than needed. When the caller stops early, what is under way is cancelled."""
    free = asyncio.Semaphore(num_at_once)
    begun: asyncio.Queue[asyncio.Task[R] | BaseException | None] = asyncio.Queue(WINDOW * num_at_once)

    async def one(item: S) -> R:
        try:
            return await work(item)
        finally:
            free.release()

    async def begin() -> None:
        try:
            while True:
                await free.acquire()
                item = await asyncio.to_thread(next, items, None)
                if item is None:
                    await begun.put(None)
                    return
                task = asyncio.create_task(one(item))
                running.add(task)
                task.add_done_callback(ended)
                await begun.put(task)
        except Exception as error:  # noqa: BLE001 - raised where the results are taken
            await begun.put(error)

    def ended(task: asyncio.Task[R]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where nobody takes the result any more

    running: set[asyncio.Task[R]] = set()
    beginner = asyncio.create_task(begin())
    try:
        while (task := await begun.get()) is not None:
            if isinstance(task, BaseException):
                raise task
            yield await task
    finally:
        tasks = [beginner, *running]
        for each in tasks:
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
