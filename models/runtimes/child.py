"""Work that needs large libraries for once, in a fork of this process: their memory goes back when it is done.

In a worker, before it has started threads: a fork has only the one that forked, whatever locks the others hold.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from models import errors
from models.errors import ModelError

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_FAILED = 1


def run(work: Callable[[], object]) -> bool:
    """Run `work` in a fork and wait for it; whether it came to its end.

    False, without an exception, where there could be no fork or it died: the caller can do the work itself. Raises the
    ModelError that `work` raised.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return False
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        log.warning("no child process: %s", error.strerror)
        os.close(reading)
        os.close(writing)
        return False
    if pid == 0:
        os.close(reading)
        _be_child(work, writing, parent)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if said:
        name, message = json.loads(said)
        raise getattr(errors, name)(message)
    if status:
        log.warning("a child process ended with status %d", status)
    return status == 0


def _be_child(work: Callable[[], object], pipe: int, parent: int) -> None:
    code = _FAILED
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            work()
            code = 0
    except ModelError as error:
        name = type(error).__name__
        if getattr(errors, name, None) is type(error):
            os.write(pipe, json.dumps([name, str(error)]).encode())
    except BaseException:  # noqa: BLE001  border: the parent is told by the exit code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
