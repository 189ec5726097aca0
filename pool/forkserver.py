"""Forks workers from a process that has imported the heavy libraries once. Runs in a process of its own.

It is not `multiprocessing`'s, because that one lets every child keep the descriptor whose closing should end
it (so a `kill -9` of the front leaves stopped workers behind), imports the main script again in each child,
blocks its caller while it preloads, and exists once per process where model families need different imports.

    front ── {"worker": 7, "arguments": {...}} + worker's socket ──▶ forkserver ── fork ──▶ worker 7
    front ◀── {"worker": 7, "pid": 123} + pidfd ── forkserver
    front ◀── {"worker": 7, "error": "why"} ── forkserver             (instead of a pid: none was started)
    front ◀── {"worker": 7, "exit_code": -9} ── forkserver            (after the pidfd told of the death)

The forkserver ends when the front closes its socket or dies; workers end with the forkserver.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import Any

MAX_REQUEST_BYTES = 64 * 1024
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent's thread ends. A stopped process obeys as well."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)


class Forkserver:
    """The loop: one request per datagram, one pidfd per living worker."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until the front is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._report_exit(key.fd, *key.data)
                elif not self._serve_request():
                    return

    def _serve_request(self) -> bool:
        request, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 1)
        if not request:
            return False
        fields = json.loads(request)
        try:
            pid, pidfd = self._fork(descriptors, fields["arguments"])
        except OSError as error:  # no process or descriptor to be had: this one fails, its siblings live on
            self._tell({"worker": fields["worker"], "error": str(error.strerror)}, [])
            return True
        self._selector.register(pidfd, selectors.EVENT_READ, (fields["worker"], pid))
        self._tell({"worker": fields["worker"], "pid": pid}, [pidfd])
        return True

    def _fork(self, descriptors: list[int], arguments: dict[str, Any]) -> tuple[int, int]:
        """Process id and pidfd of a new worker. Raises OSError, and leaves none behind."""
        if not descriptors:  # the kernel drops them silently when there is no number left
            raise OSError(errno.EMFILE, "no descriptor left in the forkserver")
        with socket.socket(fileno=descriptors[0]) as worker_socket:
            sys.stdout.flush()
            sys.stderr.flush()
            forkserver_pid = os.getpid()
            pid = os.fork()
            if pid == 0:
                _become_worker(self._control, self._selector, worker_socket, forkserver_pid, arguments)
        try:
            return pid, os.pidfd_open(pid)  # ours to reap, so the number cannot have been used again
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _report_exit(self, pidfd: int, worker: int, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell({"worker": worker, "exit_code": os.waitstatus_to_exitcode(status)}, [])

    def _tell(self, fields: dict[str, Any], descriptors: list[int]) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(fields).encode()], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the front is gone; the kernel ends the workers


def _become_worker(
    control: socket.socket,
    selector: selectors.BaseSelector,
    worker_socket: socket.socket,
    parent_pid: int,
    arguments: dict[str, Any],
) -> None:
    """In the child: forget everything of the forkserver, then never come back."""
    code = 1
    try:
        die_with_parent(parent_pid)
        for key in list(selector.get_map().values()):
            os.close(
                key.fd
            )  # a sibling's pidfd or the control socket: nothing of the front may stay open here
        control.detach()
        selector.close()
        from pool import worker

        code = worker.main(worker_socket, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  border: nothing may leave the child
        traceback.print_exc()
    finally:
        os._exit(code)  # no atexit, no destructors: they may hang (CUDA) and guard nothing here


def main(control_descriptor: int, parent_pid: int, preload: list[str]) -> None:
    """Entry point of the forkserver process."""
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the front decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in preload:
        try:
            importlib.import_module(name)
        except ImportError:
            traceback.print_exc()  # the worker that needs it fails with its own, attributable message
    Forkserver(socket.socket(fileno=control_descriptor)).run()


def spawn_arguments(control_descriptor: int, preload: list[str]) -> list[str]:
    """The command line that starts `main` in a fresh interpreter with this one's import path."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from pool.forkserver import main; "
        f"main({control_descriptor}, {os.getpid()}, {preload!r})"
    )
    return [sys.executable, "-c", code]
