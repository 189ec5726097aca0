"""One batch in a worker, run as whole as possible, and what becomes of what a model raises. Worker process."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence

from pool.model import Answers, Model, Row
from pool.protocol import ExitCode

_MAX_REASON_CHARS = 2000


def error_code(error: BaseException, otherwise: str) -> str:
    """The word for `error` that the front reads."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    return "out_of_memory" if isinstance(error, MemoryError) else otherwise


def error_reason(error: BaseException) -> str:
    """What operators read."""
    return f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]


class Attempt:
    """One batch, run as whole as possible: after an exception its rows one by one, out of memory in halves."""

    def __init__(self, model: Model, check_timeout: float) -> None:
        self._model = model
        self._check_timeout = check_timeout
        self.timings: Mapping[str, float] = {}
        """Of the batch; empty if it did not run as a whole."""
        self.is_shaken = False
        """The model raised something that was not about memory."""
        self.max_rows = 0
        """What fitted into memory when the whole did not; 0 if it did."""

    def infer(self, rows: Sequence[Row]) -> Sequence[bytes | Exception]:
        """One JSON object or exception per row."""
        return self.collect(rows, lambda: self._model.infer(rows))

    def collect(self, rows: Sequence[Row], collect: Callable[[], Answers]) -> Sequence[bytes | Exception]:
        """The same where the whole was begun before: `collect` gives its answers or raises."""
        try:
            answers = collect()
            if len(answers.fragments) != len(rows):
                raise RuntimeError(f"{len(answers.fragments)} answers for {len(rows)} rows")
        except Exception as error:  # noqa: BLE001  border: whatever a model raises is one entry's error
            traceback.print_exc()
            failure = error.with_traceback(None)  # its frames would keep the batch's tensors alive
        else:
            if not self.is_shaken and not self.max_rows:
                self.timings = answers.timings
            return answers.fragments
        is_memory = error_code(failure, "internal") == "out_of_memory"
        if is_memory:
            self.max_rows = max(len(rows) // 2, 1)
        else:
            self.is_shaken = True
            _end_if_broken(self._model, self._check_timeout)
        if len(rows) == 1:
            return [failure]
        size = self.max_rows if is_memory else 1
        parts = [self.infer(rows[first : first + size]) for first in range(0, len(rows), size)]
        return [fragment for part in parts for fragment in part]


def _end_if_broken(model: Model, timeout: float) -> None:
    """End this process, without destructors that might hang, if its device is not to be trusted any more."""
    check = getattr(model, "check_device", None)
    if check is None:
        return
    watchdog = threading.Timer(timeout, os._exit, [ExitCode.DEVICE_FAULT])
    watchdog.daemon = True
    watchdog.start()
    try:
        check()
    except BaseException:  # noqa: BLE001  whatever it is, a fresh process is the cure
        traceback.print_exc()
        os._exit(ExitCode.DEVICE_FAULT)
    watchdog.cancel()
