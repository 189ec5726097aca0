"""Batches that a model has begun and has not answered yet. Worker process.

Waiting for the device is left to a thread, which does nothing else: all calls of the model but `Running.wait` come
from one thread, so a model needs no locks, and the worker can read its socket meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence

from pool.model import Answers, Model, Row, Running
from pool.protocol import Batch


class LaunchedBatch:
    """One batch from its launch to its answers."""

    def __init__(self, batch: Batch, rows: Sequence[Row], started_at: float) -> None:
        self.batch = batch
        self.rows = rows
        self.started_at = started_at
        self.completed_at = started_at
        """When the device was done with it."""
        self.failure: BaseException | None = None
        """What the model raised so far; for its turn, since answers are given in the order of batches."""
        self._running: Running | None = None

    def begin(self, model: Model) -> None:
        """Launch it."""
        try:
            self._running = model.launch(self.rows)  # type: ignore[attr-defined]  # only where `max_launched` says so
        except Exception as error:  # noqa: BLE001  border: the same as what `result` raises, which comes later
            self.failure = error

    def wait(self) -> None:
        """Return when the device is done with it or it has failed."""
        if self._running is not None:
            try:
                self._running.wait()
            except BaseException as error:  # noqa: BLE001  for `result` to raise: here it would end the thread unseen
                self.failure = error
        self.completed_at = time.monotonic()

    def result(self) -> Answers:
        """Its answers, after `wait`. Raises what the model raised at any time."""
        running, self._running = self._running, None
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        assert running is not None, "a batch has one result"
        return running.result()


class Waiter:
    """Waits for batches in the order given. Readable, as `select` sees it, while there are complete ones to take."""

    def __init__(self) -> None:
        self._complete = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        self._batches: queue.SimpleQueue[LaunchedBatch] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def wait_for(self, batch: LaunchedBatch) -> None:
        """Wait for `batch` after those before it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="waiter", daemon=True)
            self._thread.start()
        self._batches.put(batch)

    def _run(self) -> None:
        while True:
            self._batches.get().wait()
            os.eventfd_write(self._complete, 1)

    def next(self) -> None:
        """Return when the next batch is complete."""
        os.eventfd_read(self._complete)

    def fileno(self) -> int:
        """Of what is readable."""
        return self._complete
