"""A model without weights that answers with the checksum of its pixels and breaks on order. Runs in a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from bench.chaos.faultlog import FaultLog, order_path, running_path
from bench.chaos.pictures import is_poison
from models.spec import Spec
from pool.model import Answers, Progress, Row
from pool.protocol import Done, Ready, encode

_RECORD_BYTES = 4096
_GARBAGE = [
    b"\xff" * 64,
    encode(Done(2**40, [], {})),
    encode(Done(1, [[1, None, 2]], {}, payloads=[b"{}"])),
    encode(Ready({}, [8, 8, 3], 0.0)),
]
"""No frame, a batch that never was, somebody else's nonce, ready twice."""


class OutOfMemoryError(RuntimeError):
    """More rows than were ordered to fit."""

    code = "out_of_memory"


class ChaosModel:
    """Config: `folder` (orders and fault log), `side` of the slot in pixels, `seconds` per batch.

    Before each batch it writes down what it is about to run, so that whoever kills it can read what was hit.
    """

    canary: ClassVar[dict[str, Any]] = {"is_canary": True}

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        side = config["side"]
        spec = Spec(
            config["model_id"], "yolo", "detect", "letterbox", side, side, ("circle",), device, "none", "fp32", ""
        )  # fmt: skip
        self.slot_shape = spec.slot_shape
        self.spec = spec.to_json()
        self._seconds = config["seconds"]
        folder = Path(config["folder"])
        self._log = FaultLog(folder)
        self._order = order_path(folder, os.getpid())
        self._running = os.open(running_path(folder, os.getpid()), os.O_WRONLY | os.O_CREAT, 0o600)
        self._is_broken = False
        self._max_rows: int | None = None

    def check_device(self) -> None:
        """Raises for ever once the device is broken: that is what sticky means."""
        if self._is_broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def infer(self, rows: Sequence[Row]) -> Answers:
        """One checksum per row, unless something was ordered."""
        started = time.monotonic()
        crcs = [zlib.crc32(row.pixels.tobytes()) for row in rows]
        self.check_device()
        if not any(row.params.get("is_canary") for row in rows):
            os.pwrite(self._running, json.dumps(crcs).encode().ljust(_RECORD_BYTES), 0)
            self._obey(crcs)
            self._crash_of_poison(rows, crcs)
        if self._max_rows is not None and len(rows) > self._max_rows:
            raise OutOfMemoryError(f"{len(rows)} rows")
        time.sleep(self._seconds)
        fragments = [json.dumps({"crc": crc, "pid": os.getpid()}).encode() for crc in crcs]
        return Answers(fragments, {"infer": time.monotonic() - started, "post": 0.0})

    def _obey(self, crcs: list[int]) -> None:
        try:
            order = json.loads(self._order.read_text())
        except FileNotFoundError:
            return
        self._order.unlink()
        self._log.add(order["fault"], os.getpid(), crcs)
        match order["fault"]:
            case "sticky":
                self._is_broken = True
                self.check_device()
            case "sticky_late":  # CUDA reports some errors at a later call
                self._is_broken = True
            case "out_of_memory":
                self._max_rows = 2
            case "protocol":
                own_socket().sendall(_GARBAGE[order["number"] % len(_GARBAGE)])
                time.sleep(3600)
            case "hang":
                time.sleep(3600)
            case "spin":  # C code that never lets go of the GIL
                re.match(r"(a|a)*b", "a" * 64)

    def _crash_of_poison(self, rows: Sequence[Row], crcs: list[int]) -> None:
        poison = [crc for row, crc in zip(rows, crcs, strict=True) if is_poison(row.pixels)]
        if poison:
            self._log.add("poison", os.getpid(), crcs, culprits=poison)
            os.kill(os.getpid(), signal.SIGSEGV)


def own_socket() -> socket.socket:
    """The one socket of this worker."""
    (number,) = [int(path.name) for path in Path("/proc/self/fd").iterdir() if _is_socket(path)]
    return socket.socket(fileno=os.dup(number))


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:  # the descriptor that lists the folder
        return False


def load(config: Mapping[str, Any], device: str, progress: Progress) -> ChaosModel:
    """The factory. Config beside the model's: `load_seconds`, `dies_loading`."""
    time.sleep(config.get("load_seconds", 0.0))
    if config.get("dies_loading"):
        os._exit(3)
    return ChaosModel(config, device)
