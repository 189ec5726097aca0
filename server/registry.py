"""Model name to pool: who may wait for which, readiness, failures, operators' wishes. Decisions between two awaits.

Pools are made and ended by loading.py. A keeper looks once a second for what nobody may be waiting for: loads that
failed, and required models that are due for another try.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping

from pool import CrashLoopError, LoadFailedError, ModelLoadingError, Pool, PoolError, PoolStoppedError
from server.errors import RequestFailedError, from_pool
from server.loading import Loading, Policy
from server.recovery import Recovery
from server.reloading import start_reload
from server.room import Room
from server.served import Served, progress_text
from server.table import Known
from server.tally import Tally

log = logging.getLogger(__name__)

KEEPER_INTERVAL = 1.0


class Registry:
    """All models by name."""

    def __init__(
        self,
        known: Mapping[str, Known],
        policy: Policy,
        make_pool: Callable[[Known], Pool],
        room: Room,
        on_pool_left: Callable[[Pool], None] = lambda pool: None,
        is_outdated: Callable[[Known, Pool], bool] = lambda known, pool: False,
    ) -> None:
        """`on_pool_left` is called when new requests do not get a pool any more; `is_outdated` tells whether
        `make_pool` would now place a model's replicas in another way."""
        self.models: Mapping[str, Served] = {
            name: Served(model, is_required=model.loads_at_start) for name, model in known.items()
        }
        self._policy = policy
        self._room = room
        self._loading = Loading(self.models, policy, make_pool, room, on_pool_left)
        self._is_outdated = is_outdated
        self._num_waiters = 0
        self._recovery = Recovery(policy.give_up_after)
        self.on_given_up: Callable[[], None] = lambda: None
        """Called when the required models have been beyond help for long."""
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_stopping(self) -> bool:
        """Nothing new is taken."""
        return self._loading.is_stopping

    @property
    def tally(self) -> Tally:
        """What pools have counted, for metrics."""
        return self._loading.tally

    @property
    def room(self) -> Room:
        """The account of memory, for metrics."""
        return self._room

    # Life

    def start(self) -> None:
        """Begin to load what loads at start; returns at once."""
        for served in self.models.values():
            if served.is_required:
                self._loading.open(served)
        self._keeper = asyncio.create_task(self._keep(), name="registry-keeper")

    async def stop(self) -> None:
        """Finish what is in flight within the drain timeout, end all processes. Safe to call twice."""
        self._loading.is_stopping = True
        models = self.models.values()
        ending = [
            task for task in (self._keeper, *(served.reloading for served in models)) if task is not None
        ]
        for task in ending:
            task.cancel()
        for served in models:
            served.user_left.set()  # a retired pool waits no longer for its users than others do
        opening = [served.opening for served in models if served.opening is not None]
        if ending or opening:
            await asyncio.wait(ending + opening)
        for served in models:
            if served.pool is not None:
                self._loading.close(served, self._policy.drain_timeout)
        if closing := [task for served in models for task in served.closing]:
            await asyncio.wait(closing)

    async def _keep(self) -> None:
        is_hopeful = True
        while is_hopeful:
            self.tally.look()
            try:
                is_hopeful = await self._look_after_models()
            except (
                Exception
            ):  # border: a round that fails is a bug of ours; without the next one nothing recovers
                log.critical("the registry's keeper failed", exc_info=True)
            await asyncio.sleep(KEEPER_INTERVAL)

    async def _look_after_models(self) -> bool:
        """One round. False if there is no use in another."""
        for served in self.models.values():
            pool = served.pool
            if pool is not None and pool.is_ready:
                served.note_success()
                self._lay_out_anew(served, pool)
            elif pool is not None and pool.state == "failed":
                await self._loading.note_failure(served, pool)
            is_due = served.is_required and served.pool is None and served.retry_at <= time.monotonic()
            if is_due and served.opening is None:
                self._loading.open(served)
        if self._recovery.is_given_up(self.models.values(), time.monotonic()):
            log.critical("no required model can be served: giving up")
            self.on_given_up()
            return False
        if self._room.is_due:
            await self._room.look()
        return True

    def _lay_out_anew(self, served: Served, pool: Pool) -> None:
        """Once for each pool: a reload that fails would fail again."""
        if pool is served.laid_out or served.reloading is not None or not _is_whole(pool):
            return
        served.laid_out = pool
        if self._is_outdated(served.known, pool):
            log.info("model is laid out anew", extra={"model_id": served.model_id})
            start_reload(self._loading, served, self._policy.start_timeout)

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
        if served.pool is None and served.opening is None:
            self._check_may_load(served)
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
                with served.use(pool):
                    yield pool
            except LoadFailedError as error:
                await self._loading.note_failure(served, pool)
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
        except (CrashLoopError, PoolStoppedError) as error:
            raise from_pool(error, served.model_id) from None
        finally:
            self._num_waiters -= 1

    async def _wait_loaded(self, served: Served) -> Pool:
        while True:
            if served.pool is None:
                await asyncio.shield(
                    self._loading.open(served)
                )  # raises RequestFailedError if there is no room
            pool = served.pool
            if pool is None:
                raise PoolStoppedError(f"{served.model_id} was unloaded meanwhile")
            try:
                await pool.wait_ready(time.monotonic() + self._policy.load_timeout)
            except LoadFailedError as error:
                if pool.state == "failed":  # else the pool is about to try again by itself
                    await self._loading.note_failure(served, pool)
                raise from_pool(error, served.model_id) from None
            except PoolStoppedError:
                if served.pool is None:
                    raise
            if served.pool is pool:  # else a reload has switched meanwhile
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

    # For operators

    async def load(self, served: Served) -> None:
        """Begin to load; one that failed before is tried at once. Raises RequestFailedError."""
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        served.is_required = served.known.loads_at_start
        if served.pool is not None:
            await self._loading.note_failure(served, served.pool)  # the keeper may not have seen it yet
        served.retry_at = 0.0
        if served.pool is None:
            await asyncio.shield(self._loading.open(served))

    async def unload(self, served: Served) -> None:
        """Finish what is in flight, end the model's processes. It stays unloaded until it is asked for again."""
        served.is_required = False
        served.failure = None
        while served.reloading is not None or served.opening is not None:
            if served.reloading is not None:
                served.reloading.cancel()
            await asyncio.wait([task for task in (served.reloading, served.opening) if task is not None])
        if served.pool is not None:
            self.tally.unloads[served.model_id, "asked"] += 1
            self._loading.close(served, self._policy.drain_timeout)
        if served.closing:
            await asyncio.wait(served.closing)

    async def reload(self, served: Served) -> None:
        """Serve with the weights as they are now; returns once new requests get them. Loads what is not loaded.

        Raises RequestFailedError, and the model serves as before: ``reload_in_progress``, ``model_loading`` (the
        reload goes on), ``model_unavailable``, ``weights_unavailable``, ``shutting_down``.
        """
        if served.pool is None and served.reloading is None:
            await self.load(served)
            return
        if self.is_stopping:
            raise RequestFailedError("shutting_down")
        if served.reloading is not None:
            raise RequestFailedError("reload_in_progress", served.model_id)
        task = start_reload(self._loading, served, self._policy.start_timeout)
        await asyncio.wait([task], timeout=self._policy.load_timeout)
        if not task.done():
            progress = progress_text(served.incoming) if served.incoming is not None else ""
            raise RequestFailedError("model_loading", served.model_id, progress=progress)
        if task.cancelled():
            reason = ": it was unloaded meanwhile"
            code = "shutting_down" if self.is_stopping else "model_unavailable"
            raise RequestFailedError(code, served.model_id, reason=reason)
        task.result()


def _is_whole(pool: Pool) -> bool:
    return all(replica.is_serving for replica in pool.replicas)
