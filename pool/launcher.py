"""The front's hand on a forkserver: starts it when first needed and again when it died. Front process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pool import forkserver
from pool.errors import PoolError

log = logging.getLogger(__name__)


class LaunchError(PoolError):
    """No worker was started: the forkserver died, or it or the front is short of descriptors or processes."""


class WorkerProcess:
    """A worker process as the front sees it. Confirmed dead once `exited` is set."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int | None] = loop.create_future()
        """Result: the exit code (negative: a signal), or None when the forkserver took it along."""
        self._code_timer: asyncio.TimerHandle | None = None
        self._is_orphan = False
        loop.add_reader(pidfd, self._on_death)

    def kill(self) -> None:
        """SIGKILL. Safe at any time: a pidfd never names another process."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    @property
    def is_frozen(self) -> bool:
        """Somebody has stopped it with a signal, or traces it: whatever it runs is not to blame for taking long."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in ("T", "t")

    def report_exit_code(self, code: int | None) -> None:
        """The forkserver reaped it (or is gone, with None)."""
        if code is None and self._pidfd >= 0:
            self._is_orphan = True  # the forkserver died first; the pidfd will tell when this one is gone too
            return
        self._settle(code)

    def _on_death(self) -> None:
        with contextlib.suppress(
            ChildProcessError
        ):  # the forkserver's to reap, unless it died and we are process 1
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self._close()
        # the exit code follows from the forkserver; if that one is dead as well there is none to come
        patience = 0.0 if self._is_orphan else 1.0
        self._code_timer = asyncio.get_running_loop().call_later(patience, self._settle, None)

    def _settle(self, code: int | None) -> None:
        self._close()
        if self._code_timer is not None:
            self._code_timer.cancel()
        if not self.exited.done():
            self.exited.set_result(code)

    def _close(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


class Launcher:
    """One forkserver with one set of preloaded imports."""

    def __init__(self, preload: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """`preload` are modules imported once for all workers; `environment` is added to the front's."""
        self._preload = list(preload)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[WorkerProcess]] = {}
        self._alive: dict[int, WorkerProcess] = {}

    @property
    def pid(self) -> int | None:
        """The forkserver's process id while it runs."""
        return self._process.pid if self._process else None

    async def spawn(self, worker_socket: socket.socket, arguments: Mapping[str, Any]) -> WorkerProcess:
        """Fork one worker that owns `worker_socket` (closed here). Raises LaunchError."""
        number = next(self._numbers)
        with worker_socket:
            request = json.dumps({"worker": number, "arguments": dict(arguments)}).encode()
            if len(request) > forkserver.MAX_REQUEST_BYTES:  # cut in two it would end the forkserver
                raise LaunchError(f"a worker's arguments of {len(request)} bytes are too large")
            try:
                if self._control is None:
                    self._start()
                assert self._control is not None
                socket.send_fds(self._control, [request], [worker_socket.fileno()])
            except OSError as error:
                raise LaunchError(f"the forkserver does not take requests: {error.strerror}") from error
        future: asyncio.Future[WorkerProcess] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_kill_unwanted)
            raise

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as on_error, theirs:
            on_error.callback(ours.close)
            self._process = subprocess.Popen(
                forkserver.spawn_arguments(theirs.fileno(), self._preload),
                pass_fds=[theirs.fileno()],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
            )
            on_error.pop_all()
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_readable)
        log.info("forkserver started", extra={"pid": self._process.pid, "preload": self._preload})

    def _on_readable(self) -> None:
        assert self._control is not None
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, forkserver.MAX_REQUEST_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            self._on_end()
            return
        fields = json.loads(message)
        number = fields["worker"]
        if "error" in fields:
            self._waiting.pop(number).set_exception(LaunchError(fields["error"]))
        elif "pid" in fields and not descriptors:  # its socket closes with the launch, which ends it
            self._waiting.pop(number).set_exception(LaunchError("no descriptor left in the front"))
        elif "pid" in fields:
            worker = self._alive[number] = WorkerProcess(fields["pid"], descriptors[0])
            self._waiting.pop(number).set_result(worker)
        elif worker_gone := self._alive.pop(number, None):
            worker_gone.report_exit_code(fields["exit_code"])

    def _on_end(self) -> None:
        """The forkserver is gone: its workers follow, the next `spawn` starts another."""
        self.close()
        log.warning("forkserver ended")

    def replace(self) -> None:
        """Give up a forkserver that does not answer: its workers end with it, the next `spawn` starts another."""
        log.error("forkserver does not answer", extra={"pid": self.pid})
        self.close()

    def close(self) -> None:
        """End the forkserver and with it every worker it started. Safe to call twice."""
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LaunchError("the forkserver died"))
        self._waiting.clear()
        for worker in self._alive.values():
            worker.report_exit_code(None)
        self._alive.clear()


def _kill_unwanted(future: asyncio.Future[WorkerProcess]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().kill()
