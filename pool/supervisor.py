"""Keeps one replica alive: starts its worker, watches it, starts the next. Front process, one coroutine each.

Read `Supervisor.run` from top to bottom: that is the whole life of a replica. The file is longer than its neighbours
because every event of that life ends in one of a few timers and states, which are easiest to follow side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from pool.backoff import Backoff
from pool.channel import Channel
from pool.checkup import Checkup
from pool.death import Death, explain
from pool.errors import NotEnoughMemoryError
from pool.launcher import Launcher, LaunchError, WorkerProcess
from pool.limits import Limits
from pool.oversight import Oversight
from pool.protocol import Done, Fatal, Message, Progress, ProtocolError, Ready, Slab, Stop
from pool.replica import Replica, RunningBatch, State
from pool.slab import Slab as SharedSlab

log = logging.getLogger(__name__)

_MAX_DOUBLINGS = 4
_MAX_LATENESS = 0.1
"""Seconds by which a timer may come late without anybody being suspected of having stood still."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What every worker of a pool is started with."""

    factory: str
    config: Mapping[str, Any]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Listener:
    """What the pool wants to hear of."""

    on_ready: Callable[[Ready], Coroutine[Any, Any, SharedSlab]]
    """First word of a loaded worker; gives the slab to map. Raises NotEnoughMemoryError or ProtocolError."""
    on_done: Callable[[Replica, RunningBatch], None]
    on_death: Callable[[Replica, Death], None]
    on_load_failed: Callable[[Fatal], None]
    is_served: Callable[[], bool]
    """Whether any replica of the pool serves."""
    on_able: Callable[[], None]
    """A replica may be given batches that was not before."""
    on_progress: Callable[[Mapping[str, Any]], None]


class Supervisor:
    """The coroutine and what it needs to know between two events."""

    def __init__(
        self,
        replica: Replica,
        launcher: Launcher,
        recipe: Recipe,
        listener: Listener,
        oversight: Oversight,
    ) -> None:
        self.replica = replica
        self._launcher = launcher
        self._recipe = recipe
        self._listener = listener
        self._oversight = oversight
        self._backoff = Backoff()
        self._stop_wanted = asyncio.Event()
        self._worker: WorkerProcess | None = None
        self._channel: Channel | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._launch_timeout: asyncio.Timeout | None = None
        self._opening: asyncio.Task[None] | None = None
        self._kill_reason: str | None = None
        self._fatal: Fatal | None = None
        self._num_load_failures = 0
        self._num_launch_timeouts = 0
        self._canary: Mapping[str, Any] | None = None
        self._checkup = Checkup(recipe.limits, self._examine_if_idle)
        self._restart_wanted = False
        self._time_to_finish = 0.0
        self._is_proven = False

    async def run(self) -> None:
        """Start workers until the replica is stopped or loading has failed for good."""
        while await self._wait_out_backoff():
            self.replica.become(State.STARTING)
            try:
                death = await self._one_life()
            except Exception:  # border: a bug of ours costs a worker, never the replica
                log.critical("replica %d: the supervisor failed", self.replica.index, exc_info=True)
                death = await self._abandon()
            self.replica.num_deaths += 0 if death.reason == "stopped" else 1
            self.replica.become(State.DEAD)
            log.log(
                logging.INFO if death.reason == "stopped" else logging.WARNING,
                "replica %d: worker ended: %s", self.replica.index, death.reason,
            )  # fmt: skip
            self._listener.on_death(self.replica, death)
            if self._stop_wanted.is_set() or self._has_failed_for_good():
                break
            if death.reason != "stopped":
                self._backoff.failed()
            self.replica.become(State.BACKOFF)
        self.replica.become(State.STOPPED)

    async def _wait_out_backoff(self) -> bool:
        """False when the replica was stopped meanwhile."""
        delay = self._backoff.delay(is_load=self._fatal is not None)
        breaker = self._oversight.breaker
        while not self._stop_wanted.is_set():
            if delay <= 0 and (delay := breaker.start_delay(self.replica.index, time.monotonic())) <= 0:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_wanted.wait(), delay)
            delay = 0.0
        return False

    async def _one_life(self) -> Death:
        self._kill_reason = self._fatal = None
        self._restart_wanted = False
        self._time_to_finish = 0.0
        self._is_proven = False
        try:
            ours = await self._launch()
        except LaunchError as error:
            was_stopped = self._stop_wanted.is_set()
            reason = "stopped" if was_stopped else f"not_launched: {error}"
            return Death(reason, is_attributable=False, batches=[], has_progressed=was_stopped)
        assert self._worker is not None
        limit = self._recipe.limits.max_result_bytes * self._recipe.limits.max_batch_size
        channel = self._channel = Channel(ours, limit, self._on_message, self._on_violation)
        self.replica.connect(channel, self._worker.pid)
        self._arm_timer(self._recipe.limits.start_timeout, "start_timeout")
        if self._stop_wanted.is_set():
            self._ask_to_stop()
        try:
            code = await asyncio.shield(self._worker.exited)
        finally:
            self._disarm_timer()
            self._checkup.end()
        self._worker = None
        self.replica.become(State.DEAD)  # before the drain, which makes the pool assign: not to this one
        channel.drain()  # what it answered before it died counts
        channel.close()
        self._channel = None
        await self._end_opening()
        was_asked = self._stop_wanted.is_set() or self._restart_wanted
        was_short = self._oversight.has_run_short()
        reason, is_attributable = explain(code, self._kill_reason, was_asked=was_asked, was_short=was_short)
        has_progressed = self.replica.has_progressed or self._is_proven or reason == "stopped"
        return Death(reason, is_attributable, self.replica.disconnect(), has_progressed)

    async def _launch(self) -> socket.socket:
        """Our end of a new worker's socket. Raises LaunchError, also when stopped meanwhile."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise LaunchError(f"no socket for a worker: {error.strerror}") from error
        patience = self._recipe.limits.launch_timeout * 2 ** min(self._num_launch_timeouts, _MAX_DOUBLINGS)
        try:
            async with asyncio.timeout(patience) as self._launch_timeout:
                self._worker = await self._launcher.spawn(theirs, self._arguments())
        except TimeoutError:
            ours.close()
            if not self._stop_wanted.is_set():
                self._num_launch_timeouts += 1  # a slow machine gets twice the time
                self._launcher.replace()
            raise LaunchError("the forkserver did not answer") from None
        except BaseException:
            ours.close()
            raise
        finally:
            self._launch_timeout = None
        self._num_launch_timeouts = 0
        return ours

    async def _abandon(self) -> Death:
        """After an exception of ours: see the worker dead, give back what it had."""
        self._disarm_timer()
        self._checkup.end()
        if self._worker is not None:
            self._worker.kill()
            await asyncio.shield(self._worker.exited)
        if self._channel is not None:
            self._channel.close()
        self._channel = self._worker = None
        with contextlib.suppress(Exception):  # told already
            await self._end_opening()
        return Death("supervisor_failed", is_attributable=False, batches=self.replica.disconnect())

    def _arguments(self) -> dict[str, Any]:
        placement = self.replica.placement
        return {
            "factory": self._recipe.factory,
            "config": {
                **self._recipe.config,
                "num_threads": placement.num_threads,
                "num_cores": placement.all_cores.num_cores,
                "all_cores": list(placement.all_cores.numbers),
            },
            "device": placement.device,
            "cores": list(placement.cores),
            "environment": dict(placement.environment),
            "max_result_bytes": self._recipe.limits.max_result_bytes,
            "check_timeout": self._recipe.limits.check_timeout,
            "writes_slots": self._recipe.limits.writes_slots,
        }

    def _on_message(self, message: Message) -> None:
        match message:
            case Ready():
                self._on_ready(message)
            case Done() if self.replica.is_examined_by(message.batch_id):
                self._on_examined(message)
            case Done():
                self._on_done(message)
            case Progress():
                self._listener.on_progress(message.fields)
            case Fatal():
                self._fatal = message
            case _:
                raise ProtocolError(f"{type(message).__name__} is not for a worker to say")

    def _on_ready(self, ready: Ready) -> None:
        if self.replica.state in (State.DRAINING, State.DEAD):
            return
        if self._opening is not None:
            raise ProtocolError("ready twice")
        log.info("replica %d: loaded", self.replica.index, extra={"load_seconds": ready.load_seconds})
        self._disarm_timer()  # the rest is ours to do
        self._opening = asyncio.create_task(self._open(ready))
        self._opening.add_done_callback(self._on_opened)

    async def _open(self, ready: Ready) -> None:
        try:
            slab = await self._listener.on_ready(ready)
        except NotEnoughMemoryError as error:
            self._fatal = Fatal("not_enough_memory", str(error), permanent=True)
            self.kill("not_enough_memory")
            return
        except ProtocolError as error:
            self._on_violation(error)
            return
        if self.replica.state is not State.STARTING:  # stopped or dead meanwhile
            return
        assert self._channel is not None
        self._channel.send(Slab(slab.num_slots, list(slab.slot_shape)), slab.descriptor)
        self._canary = ready.canary
        self.replica.best_batch_size = ready.best_batch_size
        if ready.canary is None:
            self._serve()
        else:
            self._examine()

    def _serve(self) -> None:
        self._num_load_failures = 0
        self.replica.become(State.READY)
        if self._recipe.limits.is_proven_by_load:
            self._is_proven = True
            self._backoff.progressed()
            self._oversight.breaker.progressed()
        if self._canary is not None:
            self._checkup.begin()
        self._listener.on_able()

    def _examine(self) -> None:
        """Have the canary answered, ahead of everything that waits."""
        assert self._oversight.canary is not None and self._canary is not None
        self.replica.examine(self._oversight.canary, self._canary)
        self._arm_timer(self._recipe.limits.first_batch_timeout, "canary_hang")

    def _on_examined(self, done: Done) -> None:
        if self.replica.state is not State.DRAINING:  # then the timer is the one that ends the drain
            self._disarm_timer()
        payload = self.replica.examined(done)
        is_fresh = self.replica.state is State.STARTING
        if not self._oversight.answer.check(payload, is_fresh=is_fresh):
            log.error("replica %d answers wrongly", self.replica.index, extra={"results": done.results})
            self.kill("canary_wrong")
        elif is_fresh:
            self._serve()
        elif self.replica.is_serving:
            self._listener.on_able()

    def _examine_if_idle(self) -> None:
        if self.replica.state is State.READY and not self.replica.examination:
            self._examine()

    def _on_opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            self.kill("supervisor_failed")  # `_one_life` gets the exception

    async def _end_opening(self) -> None:
        opening, self._opening = self._opening, None
        if opening is not None:
            await opening

    def _on_done(self, done: Done) -> None:
        batch = self.replica.complete(done)
        self._backoff.progressed()
        self._oversight.breaker.progressed()
        self._checkup.note_activity()
        if self.replica.is_serving:  # while it drains the timer is the one that ends the drain
            self._disarm_timer()
            self._look_after(batch, done)
            self.watch()
        self._listener.on_done(self.replica, batch)

    def _look_after(self, batch: RunningBatch, done: Done) -> None:
        """What a batch tells of the worker's own condition; trying whether more fits now is not held against it."""
        if done.max_rows and not batch.is_trial and self._checkup.note_shortage():
            self.restart("out of memory too often")
            return
        if done.is_shaken and self._canary is not None:
            self.replica.is_examination_due = True
        if self.replica.is_examination_due and not self.replica.in_flight:
            self._examine()

    def _on_violation(self, error: ProtocolError) -> None:
        log.error("replica %d: protocol violation: %s", self.replica.index, error)
        self.kill("protocol_violation")

    def watch(self) -> None:
        """Time the oldest batch in flight; a worker that takes longer is killed."""
        if self.replica.in_flight and self._timer is None and self.replica.is_serving:
            batch = self.replica.in_flight[0]
            self._arm_timer(batch.started_at + batch.timeout - time.monotonic(), "hang")

    def _arm_timer(self, seconds: float, reason: str) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, 0.0), self._on_time_up, reason)

    def _on_time_up(self, reason: str) -> None:
        """Kill, unless the loop is late: then the worker's answer may lie there, so it gets that time too."""
        assert self._timer is not None
        loop = asyncio.get_running_loop()
        late = loop.time() - self._timer.when()
        if late > _MAX_LATENESS:
            self._timer = loop.call_later(late, self.kill, reason)
        else:
            self.kill(reason)

    def _disarm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Let the worker finish what it has, then end; kill it after `stop_timeout`, or at once while it loads."""
        if not self._stop_wanted.is_set():
            self._stop_wanted.set()
            if self._launch_timeout is not None and not self._launch_timeout.expired():
                self._launch_timeout.reschedule(asyncio.get_running_loop().time())
            elif self._worker is not None:
                self._ask_to_stop()
        elif self.replica.state is State.DRAINING:  # it was retired and had longer
            self._disarm_timer()
            self._arm_timer(self._recipe.limits.stop_timeout, "stop_timeout")

    def retire(self) -> None:
        """Like `stop`, but what is under way is given its own time."""
        self._time_to_finish = sum(batch.timeout for batch in self.replica.in_flight)
        self.stop()

    def restart(self, reason: str) -> None:
        """Let the worker finish what it has, then start a fresh one in its place."""
        if self.replica.is_serving and not self._restart_wanted:
            log.warning("replica %d: worker is replaced: %s", self.replica.index, reason)
            self._restart_wanted = True
            self._time_to_finish = sum(batch.timeout for batch in self.replica.in_flight)
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        assert self._channel is not None
        is_loading = self.replica.state is State.STARTING
        self._disarm_timer()
        if is_loading:  # it would not read its socket before the load is over
            self.kill("stopped")
            return
        self.replica.become(State.DRAINING)
        self._channel.send(Stop())
        self._arm_timer(self._time_to_finish + self._recipe.limits.stop_timeout, "stop_timeout")

    def kill(self, reason: str) -> None:
        """SIGKILL now; the coroutine sees to the rest when the process is confirmed gone.

        That may take a while (a driver cleans up first): until then the replica is given nothing more.
        """
        if self._worker is not None:
            if reason in ("hang", "canary_hang") and self._worker.is_frozen:
                reason = "frozen"
            self._kill_reason = self._kill_reason or reason
            self._worker.kill()
            self.replica.become(State.DRAINING)

    def _has_failed_for_good(self) -> bool:
        if self._fatal is None:
            return False
        self._num_load_failures += 1
        self._listener.on_load_failed(self._fatal)
        if self._fatal.permanent:
            return True
        # with another one serving nobody waits for the verdict, and capacity comes back once loading works again
        is_last_try = self._num_load_failures >= self._recipe.limits.max_load_failures
        return is_last_try and not self._listener.is_served()
