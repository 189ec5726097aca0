"""Models whose device, memory or answers go wrong, for the pool's tests. Real processes, no GPU."""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pool.model import Answers, Row
from pool.model import Progress as Report
from tests.pool.fakes import Fake


class OutOfMemoryError(RuntimeError):
    """What a model raises after it has freed what it could."""

    code = "out_of_memory"


class DeviceLostError(RuntimeError):
    """What a factory raises when its device is gone."""

    code = "device_lost"


class _Stuck(io.StringIO):
    def flush(self) -> None:
        time.sleep(3600)


class Faulty(Fake):
    """`params["do"]`, beside what `Fake` knows:

    poison       the device is broken from now on: this batch raises
    poison_late  the same, but the first to notice is the next batch
    corrupt      this batch raises, the device says it is well, all later answers are wrong
    spin         holds the GIL in C code for ever

    Config: `check` ("hang": the device's check never returns), `fits` (rows), `grows` (bytes a batch),
    `wrong_while` (a file; while it is there, answers are wrong), `dies_while` (a file; while it is there, the first
    row that is not the canary ends the process), `hangs_at_exit`, `stuck_at_exit` (its standard output blocks),
    `first_seconds` (that the first batch takes beside the others).
    """

    canary: Mapping[str, Any] | None = {"name": "canary"}

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        super().__init__(config, device)
        self._is_poisoned = self._is_corrupt = False
        self._ballast: list[bytes] = []
        if config.get("hangs_at_exit"):
            atexit.register(time.sleep, 3600)
        if config.get("stuck_at_exit"):
            sys.stdout = _Stuck()
        self._extra_seconds = config.get("first_seconds", 0.0)

    def check_device(self) -> None:
        """What a probe of the device finds."""
        if self._is_poisoned and self._config.get("check") == "hang":
            time.sleep(3600)
        self._raise_if_poisoned()

    def _raise_if_poisoned(self) -> None:
        if self._is_poisoned:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answers, or what is wrong with the device."""
        self._raise_if_poisoned()
        if len(rows) > self._config.get("fits", 99):
            raise OutOfMemoryError(f"{len(rows)} rows")
        if grows := self._config.get("grows"):
            self._ballast.append(b"x" * grows)
        todo = {row.params.get("do") for row in rows}
        if "poison" in todo:
            self._is_poisoned = True
            self._raise_if_poisoned()
        if "corrupt" in todo and not self._is_corrupt:
            self._is_corrupt = True
            raise RuntimeError("something went wrong once")
        if "spin" in todo:
            re.match(r"(a|a)*b", "a" * 64)
        self._is_poisoned = "poison_late" in todo
        if not any(row.params.get("name") == "canary" for row in rows):
            time.sleep(self._extra_seconds)
            self._extra_seconds = 0.0
        return super().infer(rows)

    def _answer(self, row: Row, batch_size: int) -> bytes | Exception:
        is_canary = row.params.get("name") == "canary"
        if not is_canary and self._is_there("dies_while"):
            os._exit(9)
        if is_canary or self._is_corrupt:
            wrong = self._is_corrupt or self._is_there("wrong_while")
            return json.dumps({"crc": zlib.crc32(row.pixels.tobytes()) // (1 + wrong)}).encode()
        return super()._answer(row, batch_size)

    def _is_there(self, name: str) -> bool:
        path = self._config.get(name)
        return path is not None and Path(path).exists()


def load(config: Mapping[str, Any], device: str, progress: Report) -> Faulty:
    """The factory. `lost`: devices that are gone; `dies_loading`: a file; while it is there, loading kills."""
    if device in config.get("lost", ()):
        raise DeviceLostError("no CUDA-capable device is detected")
    path = config.get("dies_loading")
    if path is not None and Path(path).exists():
        os._exit(3)
    return Faulty(config, device)
