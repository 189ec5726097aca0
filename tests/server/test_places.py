from __future__ import annotations

import asyncio

import pytest

from server.errors import RequestFailedError
from server.places import Places
from tests.server.conftest import until


class Downloads:
    """Some that go on until they are told to end."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._end = asyncio.Event()
        self.running: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, host: str, owner: str = "") -> None:
        self.tasks.append(asyncio.create_task(self._download(host, owner)))

    async def _download(self, host: str, owner: str) -> None:
        async with self._places.download(owner), self._places.hop(host):
            self.running.append(owner or host)
            await self._end.wait()
            self.running.remove(owner or host)

    async def finish(self) -> list[str]:
        """Codes of those that were refused."""
        self._end.set()
        results = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [error.code for error in results if isinstance(error, RequestFailedError)]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_owner_has_so_many_at_once_and_others_do_not_wait_for_them() -> None:
    downloads = Downloads(Places(8, 8, 2))
    for number in range(6):
        downloads.start(f"{number}.example", "greedy")
    downloads.start("a.example", "modest")
    downloads.start("b.example")
    await settled()
    assert sorted(downloads.running) == ["b.example", "greedy", "greedy", "modest"]
    assert await downloads.finish() == []
    assert downloads.running == []


async def test_one_host_or_owner_takes_half_of_the_room_for_waiting_and_never_all_of_it() -> None:
    places = Places(2, 1, 1)  # room for 8
    downloads = Downloads(places)
    for _ in range(6):
        downloads.start("slow.example")
    for number in range(3):
        downloads.start(f"{number}.example", "one")
    await settled()
    assert sorted(downloads.running) == ["one", "slow.example"]
    with pytest.raises(RequestFailedError):
        async with places.download(""), places.hop("slow.example"):
            pass
    assert await downloads.finish() == ["overloaded"] * 2


async def test_nothing_is_kept_of_a_host_that_nobody_waits_for() -> None:
    places = Places(2, 1, 1)
    for number in range(100):
        async with places.download(str(number)), places.hop(f"{number}.example"):
            pass
    assert (places._hosts._shares, places._owners._shares) == ({}, {})


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    places = Places(1, 1, 1)
    downloads = Downloads(places)
    for _ in range(3):
        downloads.start("a.example", "one")
    await settled()
    for task in downloads.tasks:
        task.cancel()
    await asyncio.wait(downloads.tasks)
    await until(lambda: places._num_users == 0)
    async with places.download("one"), places.hop("a.example"):
        pass
