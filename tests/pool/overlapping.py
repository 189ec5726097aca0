"""A model that works at two batches at a time, as one on a GPU does, for the pool's tests. Real processes, no GPU."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pool.model import Answers, Row
from pool.model import Progress as Report
from tests.pool.fakes import Fake
from tests.pool.faulty import OutOfMemoryError


class _Device:
    """One queue and one thread, as a GPU's stream. Once broken it stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tail: _Batch | None = None
        self.is_broken = False

    def run(self, batch: _Batch) -> None:
        with self._lock:
            before, self._tail = self._tail, batch
        threading.Thread(target=batch.run, args=[before], daemon=True).start()

    def check(self) -> None:
        if self.is_broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


class _Batch:
    """What `launch` gives back. The pixels are read when the device comes to it, never copied."""

    def __init__(self, model: Overlapping, rows: Sequence[Row]) -> None:
        self._model = model
        self._rows = rows
        self._is_complete = threading.Event()
        self._answers: Answers | None = None
        self.todo = {row.params.get("do") for row in rows}

    def run(self, before: _Batch | None) -> None:
        """On the device."""
        if before is not None:
            before._is_complete.wait()
        time.sleep(self._model.seconds)
        if "break" in self.todo:
            self._model.device.is_broken = True
        self._answers = self._model.answer(self._rows)
        if "break_behind" in self.todo:  # what is asynchronous shows up at a later call
            self._model.device.is_broken = True
        self._is_complete.set()

    def wait(self) -> None:
        self._is_complete.wait()
        if "break_behind" not in self.todo:
            self._model.device.check()
        if "raise_in_wait" in self.todo:
            raise ValueError("found while waiting")

    def result(self) -> Answers:
        self._model.say("collect", self._rows)
        assert self._is_complete.is_set(), "waited for before it is collected"
        self._model.check_thread()
        if "raise_in_result" in self.todo:
            raise ValueError("found while collecting")
        if len(self._rows) > self._model.fits:
            raise OutOfMemoryError(f"{len(self._rows)} rows")
        assert self._answers is not None
        return self._answers


class Overlapping(Fake):
    """`params["do"]`, beside what `Fake` knows:

    break            the device breaks while it runs this batch, which says so when it is waited for
    break_behind     the same, but the first to notice is whoever comes next
    raise_in_launch, raise_in_wait, raise_in_result      a batch with this row raises there, not about memory

    Config beside the fake's: `fits` (rows; more are out of memory when collected), `fits_launch` (rows; more are out
    of memory when launched), `calls` (a file that gets a line for each call), `max_launched`.
    """

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        super().__init__(config, device)
        self.max_launched = config.get("max_launched", 2)
        self.device = _Device()
        self.seconds = config.get("seconds", 0.0)
        self.fits = config.get("fits", 99)
        self._thread = threading.get_ident()
        self._memory: npt.NDArray[np.uint8] | None = None
        self._attached = 0

    def attach(self, memory: npt.NDArray[np.uint8]) -> None:
        self._memory = memory
        self.say("attach", [])

    def check_device(self) -> None:
        self.device.check()

    def check_thread(self) -> None:
        assert threading.get_ident() == self._thread, "all calls but `wait` come from one thread"

    def say(self, call: str, rows: Sequence[Row]) -> None:
        if path := self._config.get("calls"):
            with Path(path).open("a") as file:
                file.write(json.dumps([call, *[row.params.get("name") for row in rows]]) + "\n")

    def answer(self, rows: Sequence[Row]) -> Answers:
        return Answers([self._answer(row, len(rows)) for row in rows], {"infer": 1e6, "post": 0.0})

    def launch(self, rows: Sequence[Row]) -> _Batch:
        self.say("launch", rows)
        self.check_thread()
        self.device.check()
        for row in rows:
            assert self._memory is not None, "attached before the first batch"
            assert np.shares_memory(row.pixels, self._memory)
        batch = _Batch(self, rows)
        if "raise_in_launch" in batch.todo:
            raise ValueError("found while launching")
        if len(rows) > self._config.get("fits_launch", 99):
            raise OutOfMemoryError(f"{len(rows)} rows")
        self.device.run(batch)
        return batch

    def infer(self, rows: Sequence[Row]) -> Answers:
        self.say("infer", rows)
        batch = _Batch(self, rows)
        if {"raise_in_launch", "raise_in_wait", "raise_in_result"} & batch.todo:
            raise ValueError("found again")
        self.device.run(batch)
        batch.wait()
        return batch.result()


def load(config: Mapping[str, Any], device: str, progress: Report) -> Overlapping:
    """The factory."""
    return Overlapping(config, device)
