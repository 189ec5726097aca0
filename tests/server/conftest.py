"""A server on a real socket, with fake models in real processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx
import pytest
import uvicorn

from models.catalogue import CatalogueEntry
from pool import Launcher, Limits, Placement, Pool
from server.app import create_app
from server.decoding import ImageDecoder
from server.engine import Engine
from server.fetch import Fetcher
from server.gate import Gate
from server.listener import listen
from server.settings import Settings
from server.table import Known

MODELS: Mapping[str, Mapping[str, Any]] = {
    "echo": {"loads_at_start": True},
    "ask": {"task": "vqa", "resize": "square_bicubic"},
    "label": {"task": "classify", "resize": "center_crop"},
}


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout: float = 20.0) -> None:
    """Wait for a state; one that never comes is the failure."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < deadline, "the state was not reached"
        await asyncio.sleep(0.01)


@dataclass
class Running:
    """A server that serves."""

    engine: Engine
    client: httpx.AsyncClient
    port: int
    server: uvicorn.Server
    task: asyncio.Task[None]

    def pool(self, model_id: str) -> Pool:
        pool = self.engine.registry.models[model_id].pool
        assert pool is not None
        return pool

    async def infer(self, image: bytes, model_id: str = "echo", **options: Any) -> httpx.Response:
        """A raw image with options in the query."""
        headers = {"content-type": "image/png"}
        return await self.client.post(
            "/inference", params={"model_id": model_id, **options}, content=image, headers=headers
        )

    def assert_nothing_is_held(self) -> None:
        """No slot, no bytes, no users."""
        assert self.engine.budget.num_bytes == 0
        for served in self.engine.registry.models.values():
            assert served.num_users == 0
            assert served.pool is None or served.pool.is_idle


def error_of(response: httpx.Response) -> str:
    """The code of an error whose body has the one shape; nothing secret may be in it."""
    error = response.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text and "Traceback" not in response.text
    assert ("retry-after" in response.headers) == (response.status_code in (429, 503))
    code: str = error["code"]
    return code


def known_model(model_id: str, config: Mapping[str, Any]) -> Known:
    """What the registry knows of a fake."""
    task = config.get("task", "detect")
    entry = CatalogueEntry(model_id, "yolo", task, "file", f"nowhere/{model_id}", "A fake.")
    starts = bool(config.get("loads_at_start"))
    return Known(entry, starts, starts, "auto", None if config.get("task_unknown") else task)


class SharedLauncher(Launcher):
    """One forkserver for all tests of the front, in whichever loop runs: starting one takes longer than most tests."""

    is_used = False

    def resume(self) -> None:
        """Listen to the forkserver in this loop."""
        self.is_used = True
        if self._control is not None:
            asyncio.get_running_loop().add_reader(self._control.fileno(), self._on_readable)

    async def rest(self) -> None:
        """Every worker must be gone; then this loop has no more to do with it."""
        try:
            await until(lambda: not self._alive and not self._waiting)
            if self._control is not None:
                asyncio.get_running_loop().remove_reader(self._control.fileno())
        except BaseException:
            self.close()
            raise
        finally:
            self.is_used = False


SHARED = SharedLauncher(preload=["tests.server.fakes"])


@pytest.fixture(scope="session", autouse=True)
def forkserver_ends() -> Iterator[None]:
    """With the last test."""

    async def end() -> None:
        SHARED.close()

    yield
    asyncio.run(end())


@contextlib.asynccontextmanager
async def launching() -> AsyncIterator[Launcher]:
    """The shared launcher; one of its own for a server beside another. No worker is left at its end."""
    if SHARED.is_used:
        launcher = Launcher(preload=["tests.server.fakes"])
        try:
            yield launcher
        finally:
            launcher.close()
        return
    SHARED.resume()
    try:
        yield SHARED
    finally:
        await SHARED.rest()


@contextlib.asynccontextmanager
async def serving(
    models: Mapping[str, Mapping[str, Any]] = MODELS,
    limits: Limits | None = None,
    fetcher: Fetcher | None = None,
    num_replicas: int = 1,
    wait: bool = True,
    max_connections: int = 1000,
    decoder: ImageDecoder | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """A server in this loop; at its end nothing may be held and every process is gone."""
    async with (
        launching() as launcher,
        _serving(
            launcher, models, limits, fetcher, num_replicas, wait, max_connections, decoder, settings
        ) as one,
    ):
        yield one


@contextlib.asynccontextmanager
async def _serving(
    launcher: Launcher,
    models: Mapping[str, Mapping[str, Any]],
    limits: Limits | None,
    fetcher: Fetcher | None,
    num_replicas: int,
    wait: bool,
    max_connections: int,
    decoder: ImageDecoder | None,
    settings: Mapping[str, Any],
) -> AsyncIterator[Running]:
    chosen = Settings(cuda_visible_devices="", **{"drain_timeout": 5.0, "decode": "thread", **settings})

    def make_pool(known: Known) -> Pool:
        name = known.entry.model_id
        config = {"model_id": name, **models[name]}
        factory = config.get("factory", "tests.server.fakes:load")
        bounds = replace(limits or Limits(), max_load_failures=1)
        return Pool(name, factory, config, [Placement()] * num_replicas, launcher, bounds)

    engine = Engine(
        chosen,
        {name: known_model(name, config) for name, config in models.items()},
        make_pool,
        fetcher,
        decoder,
    )
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        create_app(engine=engine), http=cast("type[asyncio.Protocol]", Gate(chosen, engine.metrics, max_connections)), ws="none", lifespan="on", log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listener]))
    try:
        await until(lambda: server.started or task.done())
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False, timeout=90.0
        ) as client:
            running = Running(engine, client, port, server, task)
            if wait:
                await until(lambda: all(s.is_ready for s in engine.registry.models.values() if s.is_required))
            yield running
        await until(
            lambda: (
                engine.budget.num_bytes == 0
                and all(s.num_users == 0 for s in engine.registry.models.values())
            )
        )
        await until(lambda: all(s.pool is None or s.pool.is_idle for s in engine.registry.models.values()))
        running.assert_nothing_is_held()
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 30)
        listener.close()
        assert all(served.pool is None for served in engine.registry.models.values())
