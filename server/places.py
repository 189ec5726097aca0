"""Who may download now: so many in all, to one host, for one owner of a key. Everybody else waits, and waiting has its
limit too, of which one host and one owner get half at most."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from server.errors import RequestFailedError

MAX_USERS_PER_PLACE = 4
"""Those who download or wait to, for each place that there is."""


class Places:
    """All of them, for one event loop."""

    def __init__(self, total: int, per_host: int, per_owner: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._max_users = total * MAX_USERS_PER_PLACE
        self._num_users = 0
        self._hosts = _Shares(per_host, max(1, self._max_users // 2))
        self._owners = _Shares(per_owner, max(1, self._max_users // 2))

    @contextlib.asynccontextmanager
    async def download(self, owner: str) -> AsyncIterator[None]:
        """Around all hops of one download; an empty `owner` has no share. Raises RequestFailedError ``overloaded``."""
        if self._num_users >= self._max_users:
            raise RequestFailedError("overloaded")
        self._num_users += 1
        try:
            async with self._owners.place(owner) if owner else contextlib.nullcontext():
                yield
        finally:
            self._num_users -= 1

    @contextlib.asynccontextmanager
    async def hop(self, host: str) -> AsyncIterator[None]:
        """The host's place first: who waits for a slow host must not hold one that others could use.

        Raises RequestFailedError ``overloaded``."""
        async with self._hosts.place(host.lower().removesuffix(".")), self._total:
            yield


class _Share:
    def __init__(self, num_places: int) -> None:
        self.places = asyncio.Semaphore(num_places)
        self.num_users = 0


class _Shares:
    """Only of those that somebody uses, so names that strangers make up take no memory."""

    def __init__(self, num_places: int, max_users: int) -> None:
        self._num_places = num_places
        self._max_users = max_users
        self._shares: dict[str, _Share] = {}

    @contextlib.asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        share = self._shares.setdefault(name, _Share(self._num_places))
        if share.num_users >= self._max_users:
            raise RequestFailedError("overloaded")
        share.num_users += 1
        try:
            async with share.places:
                yield
        finally:
            share.num_users -= 1
            if share.num_users == 0:
                del self._shares[name]
