"""Both clients behind one face, so that every test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.client import AsyncClient, Client
from tests.server.client.origin import Origin, running_origin

MakeClient = Callable[..., Any]


class Waiting:
    """An AsyncClient whose calls are waited for."""

    def __init__(self, runner: asyncio.Runner, *args: Any, **options: Any) -> None:
        self._runner = runner

        async def make() -> AsyncClient:
            return await AsyncClient(*args, **options).__aenter__()

        self._client = runner.run(make())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))

    def close(self) -> None:
        self._runner.run(self._client.__aexit__(None, None, None))


@pytest.fixture(params=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Makes clients that are closed at the end."""
    made: list[Any] = []
    with asyncio.Runner() as runner:

        def make(*args: Any, **options: Any) -> Any:
            is_sync = request.param == "sync"
            made.append(Client(*args, **options) if is_sync else Waiting(runner, *args, **options))
            return made[-1]

        yield make
        for client in made:
            client.close()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with running_origin() as running:
        yield running
