"""Pools come and go: opening, closing, and making room for one by unloading others. Front process.

A model's pool is made by one task, whoever waits for it, so that a client that leaves never stops a load that
others want. One lock: two loads never count on the same memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pool import LoadFailedError, Pool
from server.errors import RequestFailedError
from server.room import MIB, Room
from server.served import Served
from server.table import Known
from server.tally import Tally

log = logging.getLogger(__name__)

IDLE_STOP_TIMEOUT = 5.0
RETRY_DELAY = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be loaded, and who may wait for it. Durations in float seconds."""

    on_demand: Literal["all", "listed", "off"] = "all"
    max_loaded_models: int = 4
    load_timeout: float = 120.0
    start_timeout: float = 600.0
    max_load_waiters: int = 64
    drain_timeout: float = 25.0
    give_up_after: float = 120.0


class Loading:
    """Makes and ends the pools of `models`."""

    def __init__(
        self,
        models: Mapping[str, Served],
        policy: Policy,
        make_pool: Callable[[Known], Pool],
        room: Room,
        on_pool_left: Callable[[Pool], None],
    ) -> None:
        """`on_pool_left` is called when new requests do not get a pool any more."""
        self._on_pool_left = on_pool_left
        self._models = models
        self._policy = policy
        self._make_pool = make_pool
        self._room = room
        self._lock = asyncio.Lock()
        self.tally = Tally()
        self.is_stopping = False

    # Opening

    def open(self, served: Served) -> asyncio.Task[None]:
        """The one task that makes the model's pool. It raises RequestFailedError if there is no room."""
        if served.opening is None:
            served.opening = asyncio.create_task(self._open(served), name=f"open-{served.model_id}")
            served.opening.add_done_callback(lambda task: self._on_opened(served, task))
        return served.opening

    def _on_opened(self, served: Served, task: asyncio.Task[None]) -> None:
        served.opening = None
        if task.cancelled() or (error := task.exception()) is None:
            return
        served.retry_at = time.monotonic() + RETRY_DELAY
        self.tally.loads[served.model_id, "refused"] += 1
        if not isinstance(error, RequestFailedError):
            log.error("model %s could not be started", served.model_id, exc_info=error)
        elif served.is_required and not self.is_stopping:  # no client is told: readiness and the log are
            served.note_failure(LoadFailedError(error.code, error.message))
            log.error("model %s was not loaded: %s", served.model_id, error.message)

    async def _open(self, served: Served) -> None:
        if served.reloading is not None:  # its pool failed, and another is on its way already
            await asyncio.wait([served.reloading])
        if served.closing:
            await asyncio.wait(served.closing)
        async with self._lock:
            if served.pool is None and not self.is_stopping:
                served.pool = await self._start_pool(served)
                self.tally.await_load(served.pool)
                log.info("model loading", extra={"model_id": served.model_id})

    async def open_beside(self, served: Served) -> Pool:
        """A second pool for a model, started. Raises RequestFailedError if there is no memory for both."""
        async with self._lock:
            return await self._start_pool(served)

    async def _start_pool(self, served: Served) -> Pool:
        """Raises RequestFailedError ``model_unavailable`` or ``shutting_down``."""
        pool = self._make_pool(served.known)
        need = self._room.need(served.known, pool)
        await self._make_room(served, need.total(pool) + self._room.extra(served.known))
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        self._room.claim(pool, need)
        self.tally.begin(pool)
        await pool.start()
        return pool

    async def _make_room(self, wanted: Served, size: int) -> None:
        """Unload idle models, the one used longest ago first, until another pool of `size` bytes may start.

        Raises RequestFailedError ``model_unavailable``, and unloads nothing, if that would not be enough.
        """
        models = self._models.values()
        while True:
            await self._room.look()
            num_others = sum(served.pool is not None for served in models if served is not wanted)
            lacks_place = num_others >= self._policy.max_loaded_models
            if not lacks_place and size <= self._room.free:
                return
            closing = [task for served in models for task in served.closing]
            if not lacks_place and closing:  # memory that is about to come back
                await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
                continue
            idle = {served: served.pool for served in models if served.pool and self._is_idle(served)}
            if not idle or size > self._room.free + sum(map(self._room.size, idle.values())):
                raise RequestFailedError(
                    "model_unavailable",
                    wanted.model_id,
                    reason=self._reason(size, lacks_place=lacks_place and not idle),
                )
            oldest = min(idle, key=lambda served: served.last_used)
            log.info("model makes room", extra={"model_id": oldest.model_id, "for": wanted.model_id})
            self.tally.unloads[oldest.model_id, "room"] += 1
            await asyncio.wait([self.close(oldest, IDLE_STOP_TIMEOUT)])

    def _is_idle(self, served: Served) -> bool:
        pool = served.pool
        return (
            pool is not None
            and not served.is_required
            and served.num_users == 0
            and served.reloading is None
            and pool.is_idle
            and pool.state in ("ready", "failed", "crash_looping")
        )

    def _reason(self, size: int, *, lacks_place: bool) -> str:
        if lacks_place:
            return f": {self._policy.max_loaded_models} models are loaded, and none of them is idle"
        free, budget = max(0, self._room.free) // MIB, self._room.budget // MIB
        return f": it needs about {size // MIB} MiB of memory, {free} MiB of {budget} MiB are free"

    # Closing

    def close(self, served: Served, drain_timeout: float) -> asyncio.Task[None]:
        """The task that ends the model's pool, which it has."""
        return self.end(served, served.forget_pool(), drain_timeout)

    def end(self, served: Served, pool: Pool, drain_timeout: float) -> asyncio.Task[None]:
        """The task that ends `pool`, one that new requests do not get."""
        return self._closing(served, pool, self._end(pool, drain_timeout))

    def retire(self, served: Served, pool: Pool) -> asyncio.Task[None]:
        """The same for a pool that was replaced, once everybody who has got it is answered."""
        return self._closing(served, pool, self._retire(served, pool))

    async def _retire(self, served: Served, pool: Pool) -> None:
        while served.users[pool] and not self.is_stopping:  # each of them has a deadline
            served.user_left.clear()
            await served.user_left.wait()
        await self._end(pool, self._policy.drain_timeout)

    async def _end(self, pool: Pool, drain_timeout: float) -> None:
        try:
            await pool.stop(drain_timeout)
        finally:
            self._room.release(pool)
            self.tally.end(pool)

    def _closing(self, served: Served, pool: Pool, ending: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self._on_pool_left(pool)
        self.tally.settle_load(pool, "ready" if pool.is_ready else "given_up")
        task = asyncio.create_task(ending, name=f"close-{served.model_id}")
        served.closing.add(task)
        task.add_done_callback(lambda _: self._on_closed(served, task))
        return task

    def _on_closed(self, served: Served, task: asyncio.Task[None]) -> None:
        served.closing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("model %s did not stop cleanly", served.model_id, exc_info=error)

    async def note_failure(self, served: Served, pool: Pool) -> None:
        """`pool` has failed for good: take it away and say when to try again. Does nothing if it is not the model's."""
        if served.pool is not pool or pool.state != "failed":
            return
        error = pool.snapshot()["error"]
        self.tally.settle_load(pool, "failed")
        served.note_failure(LoadFailedError(error["code"], error["reason"]))
        log.error("model failed", extra={"model_id": served.model_id, **error})
        await asyncio.shield(self.close(served, 0.0))
