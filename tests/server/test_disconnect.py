from __future__ import annotations

import asyncio

import pytest

from server.disconnect import cancelled_on_disconnect
from server.errors import ClientDisconnectedError


class Client:
    """A `receive` that says nothing until `leave`."""

    def __init__(self) -> None:
        self._left = asyncio.Event()
        self.num_waiting = 0

    def leave(self) -> None:
        self._left.set()

    async def __call__(self) -> dict[str, object]:
        self.num_waiting += 1
        try:
            await self._left.wait()
        finally:
            self.num_waiting -= 1
        return {"type": "http.disconnect"}


async def test_what_runs_inside_is_cancelled_when_the_client_leaves() -> None:
    client, was_cancelled = Client(), False
    asyncio.get_running_loop().call_soon(client.leave)
    with pytest.raises(ClientDisconnectedError):
        async with cancelled_on_disconnect(client):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                was_cancelled = True
                raise
    assert was_cancelled
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left over to hit later


async def test_nobody_watches_any_more_afterwards() -> None:
    client = Client()
    async with cancelled_on_disconnect(client):
        await asyncio.sleep(0)
        assert client.num_waiting == 1
    await asyncio.sleep(0)
    assert client.num_waiting == 0
    client.leave()
    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    client = Client()

    async def work() -> None:
        async with cancelled_on_disconnect(client):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with cancelled_on_disconnect(Client()):
            raise ValueError("mine")
