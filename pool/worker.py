"""The life of a worker: pin, load, then answer batches one after the other. Runs in the worker process.

Nothing here decides anything: which rows run together, what is retried and when to end is the front's business.
A worker only ends by itself when it is asked to (`Stop`, or the front's socket closed), when it cannot load,
or when its device is no longer to be trusted.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import math
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pool.model import Answers, Factory, Model, Row
from pool.protocol import (
    Batch,
    Done,
    ExitCode,
    Fatal,
    FrameReader,
    Message,
    Progress,
    Ready,
    Slab,
    Stop,
    encode,
)
from pool.slab import SlabView

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 64 * 1024 * 1024
_RECEIVE_BYTES = 256 * 1024
_MAX_REASON_CHARS = 2000
_sending = threading.Lock()  # libraries report a download's progress from threads of their own


def main(connection: socket.socket, arguments: Mapping[str, Any]) -> int:
    """Serve until told to stop; returns the exit code."""
    faulthandler.enable()
    _prefer_as_oom_victim()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a signal to the whole group is for the front to act on
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        model, seconds = _load(connection, arguments)
    except (BrokenPipeError, ConnectionResetError):
        return ExitCode.ASKED_TO
    except Exception as error:  # noqa: BLE001  border: whatever a factory raises is reported
        traceback.print_exc()
        code = _code(error, "load_failed")
        permanent = bool(getattr(error, "permanent", False)) or code == "device_lost"
        _send(connection, Fatal(code, _reason(error), permanent))
        return ExitCode.DEVICE_LOST if code == "device_lost" else ExitCode.LOAD_FAILED
    try:
        canary = getattr(model, "canary", None)
        _send(connection, Ready(dict(model.spec), list(model.slot_shape), seconds, canary))
        _Server(connection, model, arguments).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the front is gone
    return ExitCode.ASKED_TO


def _prefer_as_oom_victim() -> None:
    with contextlib.suppress(OSError):  # read-only /proc: the kernel's own choice has to do
        Path("/proc/self/oom_score_adj").write_text("500")


def _load(connection: socket.socket, arguments: Mapping[str, Any]) -> tuple[Model, float]:
    """Pin first: a library starts its threads, and CUDA looks for devices, only once."""
    os.environ.update(arguments["environment"])
    if arguments["cores"]:
        try:
            os.sched_setaffinity(0, arguments["cores"])
        except OSError as error:  # a core went offline or is forbidden: slower, not broken
            log.warning("cannot pin to cores %s: %s", arguments["cores"], error.strerror)
    started = time.monotonic()
    module, _, name = arguments["factory"].partition(":")
    factory: Factory = getattr(importlib.import_module(module), name)

    def report(fields: Mapping[str, Any]) -> None:
        _send(connection, Progress(dict(fields)))

    model = factory(arguments["config"], arguments["device"], report)
    return model, time.monotonic() - started


def _send(connection: socket.socket, message: Message) -> None:
    frame = encode(message)
    with _sending:
        connection.sendall(frame)


def _code(error: BaseException, otherwise: str) -> str:
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return code
    return "out_of_memory" if isinstance(error, MemoryError) else otherwise


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_REASON_CHARS]


class _Server:
    def __init__(self, connection: socket.socket, model: Model, arguments: Mapping[str, Any]) -> None:
        self._connection = connection
        self._model = model
        self._max_result_bytes: int = arguments["max_result_bytes"]
        self._check_timeout: float = arguments["check_timeout"]
        self._slab: SlabView | None = None

    def run(self) -> None:
        for message in self._messages():
            match message:
                case Batch():
                    _send(self._connection, self._answer(message))
                case Stop():
                    return

    def _messages(self) -> Iterator[Message]:
        reader = FrameReader(_MAX_REQUEST_BYTES)
        while True:
            chunk, descriptors, _, _ = socket.recv_fds(self._connection, _RECEIVE_BYTES, 1)
            if not chunk:
                return
            for message in reader.feed(chunk):
                if isinstance(message, Slab):
                    self._slab = SlabView(descriptors.pop(), message.num_slots, message.slot_shape)
                else:
                    yield message

    def _answer(self, batch: Batch) -> Done:
        assert self._slab is not None, "the slab comes before the first batch"
        started = time.monotonic()
        rows = [Row(self._slab.pixels(slot, nonce), params) for slot, nonce, params in batch.rows]
        attempt = Attempt(self._model, self._check_timeout)
        fragments = attempt.infer(rows)
        results, payloads = [], []
        for (_, nonce, _), fragment in zip(batch.rows, fragments, strict=True):
            payload, error = self._encode_row(fragment)
            results.append([nonce, error, len(payload)])
            payloads.append(payload)
        seconds = {name: float(value) for name, value in attempt.timings.items() if math.isfinite(value)}
        seconds["total"] = time.monotonic() - started
        return Done(batch.batch_id, results, seconds, attempt.is_shaken, attempt.max_rows, payloads)

    def _encode_row(self, fragment: bytes | Exception) -> tuple[bytes, list[str] | None]:
        if isinstance(fragment, Exception):
            return b"", [_code(fragment, "internal"), _reason(fragment)]
        if len(fragment) > self._max_result_bytes:
            return b"", ["result_too_large", f"{len(fragment)} bytes"]
        return fragment, None


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
        try:
            answers: Answers = self._model.infer(rows)
            if len(answers.fragments) != len(rows):
                raise RuntimeError(f"{len(answers.fragments)} answers for {len(rows)} rows")
        except Exception as error:  # noqa: BLE001  border: whatever a model raises is one entry's error
            traceback.print_exc()
            failure = error.with_traceback(None)  # its frames would keep the batch's tensors alive
        else:
            if not self.is_shaken and not self.max_rows:
                self.timings = answers.timings
            return answers.fragments
        is_memory = _code(failure, "internal") == "out_of_memory"
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
