from __future__ import annotations

import asyncio

import pytest

from server.decode_turns import Turns


async def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(10), list[str]()

    async def take(name: str, amount: int, seconds: float) -> None:
        async with turns.hold(amount):
            order.append(name)
            await asyncio.sleep(seconds)

    async with turns.hold(6):
        tasks = [asyncio.create_task(take("large", 8, 0.0)), asyncio.create_task(take("small", 1, 0.0))]
        await asyncio.sleep(0.01)
        assert order == [], "the small one would fit, but came later"
    await asyncio.gather(*tasks)
    assert order == ["large", "small"] and turns.is_idle


async def test_who_wants_more_than_there_is_gets_all() -> None:
    turns = Turns(10)
    async with turns.hold(1000):
        assert not turns.is_idle
    assert turns.is_idle


async def test_who_leaves_the_queue_holds_up_nobody() -> None:
    turns = Turns(10)

    async def take(amount: int) -> None:
        async with turns.hold(amount):
            pass

    async with turns.hold(5):
        large, small = asyncio.create_task(take(9)), asyncio.create_task(take(3))
        await asyncio.sleep(0)
        large.cancel()
        await asyncio.wait_for(small, 10)
    with pytest.raises(asyncio.CancelledError):
        await large
    assert turns.is_idle


async def test_a_turn_that_came_in_the_moment_of_a_cancellation_goes_to_the_next() -> None:
    turns = Turns(1)

    async def take() -> None:
        async with turns.hold(1):
            pass

    async with turns.hold(1):
        first, second = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    first.cancel()  # it has its turn and does not know yet
    await asyncio.wait_for(second, 10)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert turns.is_idle


async def test_who_leaves_in_the_moment_in_which_its_turn_comes_costs_nobody_else_anything() -> None:
    turns = Turns(1)

    async def take() -> None:
        async with turns.hold(1):
            pass

    async with turns.hold(1):
        first, second = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
        first.cancel()  # it does not know yet, and stands first in the queue when the turn is given back
    await asyncio.wait_for(second, 10)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert turns.is_idle
