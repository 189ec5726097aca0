"""A reload: a second pool with the weights as they are now, then the switch, then the end of the first. Front process.

    open_beside ──▶ every replica serves ──▶ switch ──▶ retire: ends when those who got the old pool are answered
         │                   │
         ▼                   ▼
    no memory: the first pool serves on; so it does when the second fails

The switch is one assignment: a request has either the old pool or the new one, from its slot to its answer.
"""

from __future__ import annotations

import asyncio
import logging
import time

from pool import LoadFailedError, Pool
from server.errors import RequestFailedError, from_pool, load_failure
from server.loading import Loading
from server.served import Served, progress_text

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.05


def start_reload(loading: Loading, served: Served, timeout: float) -> asyncio.Task[None]:
    """The task that is done with the switch; cancelled, it leaves things as they were before the switch.

    It raises RequestFailedError: ``model_unavailable`` or ``weights_unavailable`` where the new pool cannot be
    had, ``model_loading`` after `timeout` seconds.
    """
    task = served.reloading = asyncio.create_task(
        _reload(loading, served, timeout), name=f"reload-{served.model_id}"
    )
    task.add_done_callback(lambda _: _on_reloaded(loading, served, task))
    return task


def _on_reloaded(loading: Loading, served: Served, task: asyncio.Task[None]) -> None:
    served.reloading = None
    outcome = "given_up" if task.cancelled() else "failed" if task.exception() else "ready"
    loading.tally.reloads[served.model_id, outcome] += 1
    if task.cancelled():
        log.info("reload given up", extra={"model_id": served.model_id})
    elif (error := task.exception()) is None:
        log.info("model reloaded", extra={"model_id": served.model_id})
    elif isinstance(error, RequestFailedError):
        log.error("reload failed: %s", error.message, extra={"model_id": served.model_id})
    else:
        log.error("reload failed", extra={"model_id": served.model_id}, exc_info=error)


async def _reload(loading: Loading, served: Served, timeout: float) -> None:
    pool = await loading.open_beside(served)
    served.incoming = pool
    try:
        await _wait_whole(served, pool, time.monotonic() + timeout)
    except BaseException:
        served.incoming = None
        loading.end(served, pool, 0.0)
        raise
    old = served.switch()
    if old is not None:
        loading.retire(served, old)


async def _wait_whole(served: Served, pool: Pool, deadline: float) -> None:
    """Until every replica serves: with one of several the model would be slower than before.

    A worker that dies is reason enough to give up, as the old pool serves.
    """
    while not all(replica.is_serving for replica in pool.replicas):
        if pool.state == "failed" or any(replica.num_deaths for replica in pool.replicas):
            raise _failure(served, pool)
        if time.monotonic() > deadline:
            raise RequestFailedError("model_loading", served.model_id, progress=progress_text(pool))
        await asyncio.sleep(POLL_INTERVAL)


def _failure(served: Served, pool: Pool) -> RequestFailedError:
    error = pool.snapshot()["error"] or {"code": "load_failed", "reason": "a worker died while it loaded"}
    log.error("reload failed", extra={"model_id": served.model_id, **error})
    failed = from_pool(LoadFailedError(error["code"], error["reason"]), served.model_id)
    if failed.code != "model_unavailable":
        return failed
    serves_on = "; the old ones serve on" if served.is_ready else ""
    code = load_failure(error["code"], served.model_id)["code"]
    reason = f": its new weights could not be loaded ({code}){serves_on}"
    return RequestFailedError("model_unavailable", served.model_id, reason=reason)
