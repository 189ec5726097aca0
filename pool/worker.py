"""The life of a worker: pin, load, then answer batches in their order. Runs in the worker process.

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
import select
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pool.attempt import Attempt, error_code, error_reason
from pool.launched import LaunchedBatch, Waiter
from pool.model import Factory, Model, Row
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
        code = error_code(error, "load_failed")
        permanent = bool(getattr(error, "permanent", False)) or code == "device_lost"
        _send(connection, Fatal(code, error_reason(error), permanent))
        return ExitCode.DEVICE_LOST if code == "device_lost" else ExitCode.LOAD_FAILED
    try:
        canary, best = getattr(model, "canary", None), int(getattr(model, "best_batch_size", 0))
        _send(connection, Ready(dict(model.spec), list(model.slot_shape), seconds, canary, best))
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


class _Server:
    """Reads batches, has the model run them and says what came of them, in the order in which they came.

    Where the model can be given more than one it has the next batch as soon as that can be read, while the answers
    of the one before are waited for, made and sent; with nothing to read it waits for nothing but its oldest batch.
    """

    def __init__(self, connection: socket.socket, model: Model, arguments: Mapping[str, Any]) -> None:
        self._connection = connection
        self._model = model
        self._max_result_bytes: int = arguments["max_result_bytes"]
        self._check_timeout: float = arguments["check_timeout"]
        self._writes_slots: bool = arguments["writes_slots"]
        self._slab: SlabView | None = None
        self._reader = FrameReader(_MAX_REQUEST_BYTES)
        self._inbox: deque[Batch | Stop] = deque()
        self._max_launched: int = getattr(model, "max_launched", 1)
        self._minds_others = hasattr(model, "is_alone")
        self._launched: deque[LaunchedBatch] = deque()
        self._waiter = Waiter()
        self._free_since = 0.0
        """When the device was done with the batch before."""

    def run(self) -> None:
        while True:
            if self._inbox and self._has_room:
                message = self._inbox.popleft()
                if isinstance(message, Stop):
                    break
                self._begin(message)
            elif self._is_message_next():
                self._receive()
            else:
                self._finish_oldest()
        while self._launched:
            self._finish_oldest()

    @property
    def _has_room(self) -> bool:
        """Whether another batch may be begun: none is while one has failed, so that its rows run by themselves."""
        return len(self._launched) < self._max_launched and not any(each.failure for each in self._launched)

    def _is_message_next(self) -> bool:
        """Wait until a message can be read that can be acted on, or the oldest batch is complete: which it is."""
        if not self._launched:
            return True
        if not self._has_room:
            return False
        message = self._connection.fileno()
        readable, _, _ = select.select([message, self._waiter.fileno()], [], [])
        return message in readable

    def _receive(self) -> None:
        chunk, descriptors, _, _ = socket.recv_fds(self._connection, _RECEIVE_BYTES, 1)
        if not chunk:  # the front has gone
            self._inbox.append(Stop())
        for message in self._reader.feed(chunk):
            match message:
                case Slab():
                    self._map(message, descriptors.pop())
                case Batch() | Stop():
                    self._inbox.append(message)

    def _map(self, slab: Slab, descriptor: int) -> None:
        attach = getattr(self._model, "attach", None)
        self._slab = SlabView(
            descriptor, slab.num_slots, slab.slot_shape, attach is not None, self._writes_slots
        )
        if attach is not None:
            attach(self._slab.memory)

    def _begin(self, batch: Batch) -> None:
        assert self._slab is not None, "the slab comes before the first batch"
        started = time.monotonic()
        rows = [Row(self._slab.pixels(slot, nonce), params) for slot, nonce, params in batch.rows]
        if self._minds_others:
            self._model.is_alone = batch.is_alone  # type: ignore[attr-defined]  # one of those that may be missing
        if self._max_launched > 1:
            launched = LaunchedBatch(batch, rows, started)
            launched.begin(self._model)
            self._launched.append(launched)
            self._waiter.wait_for(launched)
        else:
            attempt = Attempt(self._model, self._check_timeout)
            self._send_done(batch, attempt.infer(rows), attempt, started)

    def _finish_oldest(self) -> None:
        self._waiter.next()
        launched = self._launched.popleft()
        attempt = Attempt(self._model, self._check_timeout)
        fragments = attempt.collect(launched.rows, launched.result)
        if attempt.timings:
            seconds = launched.completed_at - max(launched.started_at, self._free_since)
            attempt.timings = {**attempt.timings, "infer": seconds}
        self._free_since = launched.completed_at
        self._send_done(launched.batch, fragments, attempt, launched.started_at)

    def _send_done(
        self, batch: Batch, fragments: Sequence[bytes | Exception], attempt: Attempt, started: float
    ) -> None:
        results, payloads = [], []
        for (_, nonce, _), fragment in zip(batch.rows, fragments, strict=True):
            payload, error = self._encode_row(fragment)
            results.append([nonce, error, len(payload)])
            payloads.append(payload)
        seconds = {name: float(value) for name, value in attempt.timings.items() if math.isfinite(value)}
        seconds["total"] = time.monotonic() - started
        done = Done(batch.batch_id, results, seconds, attempt.is_shaken, attempt.max_rows, payloads)
        _send(self._connection, done)

    def _encode_row(self, fragment: bytes | Exception) -> tuple[bytes, list[str] | None]:
        if isinstance(fragment, Exception):
            return b"", [error_code(fragment, "internal"), error_reason(fragment)]
        if len(fragment) > self._max_result_bytes:
            return b"", ["result_too_large", f"{len(fragment)} bytes"]
        return fragment, None
