"""Model name to pool: loading at start and on demand, and making room. Decisions are taken between two awaits.

A model's pool is made by one task, whoever waits for it, so that a client that leaves never stops a load that
others want. A keeper looks once a second for what nobody may be waiting for: loads that failed, and required
models that are due for another try.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pool import LoadFailedError, ModelLoadingError, Pool, PoolError, PoolStoppedError
from server.errors import RequestFailedError, from_pool
from server.served import Served, progress_text
from server.table import Known

log = logging.getLogger(__name__)

KEEPER_INTERVAL = 1.0
IDLE_STOP_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be loaded, and who may wait for it. Durations in float seconds."""

    on_demand: Literal["all", "listed", "off"] = "all"
    max_loaded_models: int = 4
    load_timeout: float = 120.0
    max_load_waiters: int = 64
    drain_timeout: float = 25.0


class Registry:
    """All models by name."""

    def __init__(
        self, known: Mapping[str, Known], policy: Policy, make_pool: Callable[[Known], Pool]
    ) -> None:
        self.models: Mapping[str, Served] = {
            name: Served(model, is_required=model.loads_at_start) for name, model in known.items()
        }
        self._policy = policy
        self._make_pool = make_pool
        self._lock = asyncio.Lock()
        self._num_waiters = 0
        self._keeper: asyncio.Task[None] | None = None
        self.is_stopping = False

    # Life

    def start(self) -> None:
        """Begin to load what loads at start; returns at once."""
        for served in self.models.values():
            if served.is_required:
                self._open(served)
        self._keeper = asyncio.create_task(self._keep(), name="registry-keeper")
        self._keeper.add_done_callback(_report_end)

    async def stop(self) -> None:
        """Finish what is in flight within the drain timeout, end all processes. Safe to call twice."""
        self.is_stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        opening = [served.opening for served in self.models.values() if served.opening is not None]
        if opening:
            await asyncio.wait(opening)
        closing = [self._close(served, self._policy.drain_timeout) for served in self.models.values()]
        if tasks := [task for task in closing if task is not None]:
            await asyncio.wait(tasks)

    async def _keep(self) -> None:
        while True:
            for served in self.models.values():
                pool = served.pool
                if pool is not None and pool.is_ready:
                    served.note_success()
                elif pool is not None and pool.state == "failed":
                    await self.note_failure(served, pool)
                is_due = served.is_required and served.pool is None and served.retry_at <= time.monotonic()
                if is_due and served.opening is None:
                    self._open(served)
            await asyncio.sleep(KEEPER_INTERVAL)

    # For requests

    def find(self, model_id: str) -> Served:
        """Raises RequestFailedError ``model_not_found``: names are looked up and are never a path or an address."""
        served = self.models.get(model_id)
        if served is None:
            raise RequestFailedError("model_not_found")
        return served

    def admit(self, served: Served, deadline: float) -> None:
        """Refuse what cannot be answered before anything is spent on it. Raises RequestFailedError."""
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        if served.spec is None or served.pool is None:
            return  # it is going to wait for the load, holding nothing
        try:
            served.pool.check_admission(deadline)
        except PoolError as error:
            raise from_pool(error, served.model_id) from None

    @contextlib.asynccontextmanager
    async def use(self, served: Served) -> AsyncIterator[Pool]:
        """The model's pool, loaded first if need be; while it is used the model is not unloaded to make room.

        Raises RequestFailedError ``model_loading``, ``model_unavailable``, ``weights_unavailable``, and the same
        for what the pool raises inside the `async with`.
        """
        served.num_users += 1
        try:
            pool = served.pool
            if pool is None or pool.spec is None:
                pool = await self._loaded_pool(served)
            try:
                yield pool
            except LoadFailedError as error:
                await self.note_failure(served, pool)
                raise from_pool(error, served.model_id) from None
            except PoolStoppedError:
                raise RequestFailedError(
                    "shutting_down" if self.is_stopping else "model_unavailable", served.model_id
                ) from None
            except PoolError as error:
                raise from_pool(error, served.model_id) from None
        finally:
            served.num_users -= 1
            served.last_used = time.monotonic()

    async def _loaded_pool(self, served: Served) -> Pool:
        if served.pool is None and served.opening is None:
            self._check_may_load(served)
        if self._num_waiters >= self._policy.max_load_waiters:
            raise RequestFailedError("model_loading", served.model_id)
        self._num_waiters += 1
        try:
            async with asyncio.timeout(self._policy.load_timeout):
                return await self._wait_loaded(served)
        except (TimeoutError, ModelLoadingError):
            progress = progress_text(served.pool) if served.pool is not None else ""
            raise RequestFailedError("model_loading", served.model_id, progress=progress) from None
        except PoolStoppedError:
            raise RequestFailedError("model_unavailable", served.model_id) from None
        finally:
            self._num_waiters -= 1

    async def _wait_loaded(self, served: Served) -> Pool:
        if served.pool is None:
            await asyncio.shield(self._open(served))  # raises RequestFailedError if there is no room
        pool = served.pool
        if pool is None:
            raise PoolStoppedError(f"{served.model_id} was unloaded meanwhile")
        try:
            await pool.wait_ready(time.monotonic() + self._policy.load_timeout)
        except LoadFailedError as error:
            if pool.state == "failed":  # else the pool is about to try again by itself
                await self.note_failure(served, pool)
            raise from_pool(error, served.model_id) from None
        served.note_success()
        return pool

    def _check_may_load(self, served: Served) -> None:
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        on_demand = self._policy.on_demand
        is_allowed = (
            on_demand == "all" or served.is_required or (on_demand == "listed" and served.known.is_listed)
        )
        if not is_allowed:
            raise RequestFailedError("model_unavailable", served.model_id)
        if served.failure is not None and (wait := served.retry_at - time.monotonic()) > 0:
            refusal = from_pool(served.failure, served.model_id)
            refusal.retry_after = wait
            raise refusal

    # Opening and closing

    def _open(self, served: Served) -> asyncio.Task[None]:
        """The one task that makes the model's pool."""
        if served.opening is None:
            served.opening = asyncio.create_task(
                self._make_room_and_start(served), name=f"open-{served.model_id}"
            )
            served.opening.add_done_callback(lambda task: self._on_opened(served, task))
        return served.opening

    def _on_opened(self, served: Served, task: asyncio.Task[None]) -> None:
        served.opening = None
        if not task.cancelled() and (error := task.exception()) is not None:
            served.retry_at = time.monotonic() + KEEPER_INTERVAL
            if not isinstance(error, RequestFailedError):
                log.error("model %s could not be started", served.model_id, exc_info=error)

    async def _make_room_and_start(self, served: Served) -> None:
        async with self._lock:
            if served.closing is not None:
                await asyncio.wait([served.closing])
            while self._num_loaded() >= self._policy.max_loaded_models:
                await self._unload_idle(served)
            if self.is_stopping or served.pool is not None:
                return
            pool = self._make_pool(served.known)
            await pool.start()
            served.pool = pool
            log.info("model loading", extra={"model_id": served.model_id})

    def _num_loaded(self) -> int:
        return sum(served.pool is not None for served in self.models.values())

    async def _unload_idle(self, wanted: Served) -> None:
        """Unload the idle model used longest ago. Raises RequestFailedError ``model_unavailable`` if all are busy."""
        idle = [
            other
            for other in self.models.values()
            if other.pool is not None
            and not other.is_required
            and other.num_users == 0
            and other.pool.is_idle
            and other.pool.state in ("ready", "failed")
        ]
        if not idle:
            raise RequestFailedError("model_unavailable", wanted.model_id)
        oldest = min(idle, key=lambda other: other.last_used)
        log.info("model makes room", extra={"model_id": oldest.model_id, "for": wanted.model_id})
        task = self._close(oldest, IDLE_STOP_TIMEOUT)
        if task is not None:
            await asyncio.wait([task])

    def _close(self, served: Served, drain_timeout: float) -> asyncio.Task[None] | None:
        pool = served.forget_pool()
        if pool is None:
            return served.closing
        task = served.closing = asyncio.create_task(pool.stop(drain_timeout), name=f"close-{served.model_id}")
        task.add_done_callback(lambda _: self._on_closed(served, task))
        return task

    def _on_closed(self, served: Served, task: asyncio.Task[None]) -> None:
        if served.closing is task:
            served.closing = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("model %s did not stop cleanly", served.model_id, exc_info=error)

    async def note_failure(self, served: Served, pool: Pool) -> None:
        """`pool` has failed for good: take it away and say when to try again. Does nothing if it is not the model's."""
        if served.pool is not pool or pool.state != "failed":
            return
        error = pool.snapshot()["error"]
        served.note_failure(LoadFailedError(error["code"], error["reason"]))
        log.error("model failed", extra={"model_id": served.model_id, **error})
        task = self._close(served, 0.0)
        if task is not None:
            await asyncio.shield(task)

    # For operators

    async def load(self, served: Served) -> None:
        """Begin to load; one that failed before is tried at once. Raises RequestFailedError."""
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        served.is_required = served.known.loads_at_start
        if served.pool is not None:
            await self.note_failure(served, served.pool)  # the keeper may not have seen it yet
        served.retry_at = 0.0
        if served.pool is None:
            await asyncio.shield(self._open(served))

    async def unload(self, served: Served) -> None:
        """Finish what is in flight, end the model's processes. It stays unloaded until it is asked for again."""
        served.is_required = False
        served.failure = None
        if served.opening is not None:
            await asyncio.wait([served.opening])
        task = self._close(served, self._policy.drain_timeout)
        if task is not None:
            await asyncio.shield(task)


def _report_end(keeper: asyncio.Task[None]) -> None:
    """Ending by itself is a bug of ours: say so loudly."""
    if not keeper.cancelled() and (error := keeper.exception()) is not None:
        log.critical("the registry's keeper failed", exc_info=error)
