"""Models without torch for the pool's tests: real processes, made-up answers."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.chaos.model import own_socket
from pool.model import Answers, Row
from pool.model import Progress as Report
from pool.protocol import Done, Progress, Ready, Stop, encode

SLOT_SHAPE = (8, 8, 3)


class RefusedError(Exception):
    """An exception with a word for the caller."""

    code = "refused"


class FailsToLoadError(Exception):
    """What a factory raises when there are no weights."""

    code = "weights_unavailable"

    def __init__(self, permanent: bool) -> None:
        super().__init__("no weights here")
        self.permanent = permanent


class Fake:
    """Answers with the checksum of the pixels it saw; `params["do"]` makes it misbehave.

    Config: `seconds` per batch, `load_seconds`, `fail_load` ("once" needs `marker`, "always", "permanent"),
    `log` (a file that gets one line per batch), `slot_shape`.
    """

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        self._config = config
        self.slot_shape = tuple(config.get("slot_shape", SLOT_SHAPE))
        self.spec = {
            "device": device,
            "cores": sorted(os.sched_getaffinity(0)),
            "num_threads": config["num_threads"],
            "all_cores": (config["num_cores"], config["all_cores"]),
            "omp": os.environ.get("OMP_NUM_THREADS"),
            "cuda": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "pid": os.getpid(),
        }

    def infer(self, rows: Sequence[Row]) -> Answers:
        started = time.monotonic()
        if path := self._config.get("log"):
            line = json.dumps(
                {
                    "keys": [r.params.get("key", "") for r in rows],
                    "names": [r.params.get("name") for r in rows],
                }
            )
            with Path(path).open("a") as file:
                file.write(line + "\n")
        time.sleep(self._config.get("seconds", 0.0))
        fragments: list[bytes | Exception] = [self._answer(row, len(rows)) for row in rows]
        if self._config.get("odd_timings"):
            return Answers(fragments, {"infer": np.float32(0.5), "post": float("nan")})  # type: ignore[dict-item]
        return Answers(fragments, {"infer": time.monotonic() - started, "post": 0.0})

    def _answer(self, row: Row, batch_size: int) -> bytes | Exception:
        do = row.params.get("do")
        if do == "raise":
            raise ValueError("this row cannot be answered")
        if do == "refuse":
            return RefusedError("not this one")
        if do == "die":
            os.kill(os.getpid(), row.params.get("signal", signal.SIGKILL))
        if do == "segfault":
            ctypes.string_at(0)
        if do == "exit":
            os._exit(17)
        if do == "hang":
            time.sleep(3600)
        if do == "die_once":
            marker = Path(row.params["marker"])
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), row.params.get("signal", signal.SIGKILL))
        if do == "large":
            return json.dumps({"x": "y" * row.params["size"]}).encode()
        if do == "sleep":
            time.sleep(row.params["seconds"])
        crc = zlib.crc32(row.pixels.tobytes())
        return json.dumps(
            {"crc": crc, "rows": batch_size, "pid": os.getpid(), "writable": row.pixels.flags.writeable}
        ).encode()


def load(config: Mapping[str, Any], device: str, progress: Report) -> Fake:
    """The factory."""
    progress({"stage": "load", "done_bytes": 1, "total_bytes": 2})
    if config.get("chatty"):
        say = {"stage": "download", "file": "x" * 50_000}
        threads = [threading.Thread(target=lambda: [progress(say) for _ in range(40)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    time.sleep(config.get("load_seconds", 0.0))
    fail = config.get("fail_load")
    if fail == "once":
        marker = Path(config["marker"])
        if not marker.exists():
            marker.touch()
            raise FailsToLoadError(permanent=False)
    elif fail is not None:
        raise FailsToLoadError(permanent=fail == "permanent")
    return Fake(config, device)


class Garbles(Fake):
    """Says something that is not an answer to its batch, as often as `num_times` files can be made in `folder`."""

    def infer(self, rows: Sequence[Row]) -> Answers:
        for number in range(self._config["num_times"]):
            marker = Path(self._config["folder"]) / str(number)
            if not marker.exists():
                marker.touch()
                for message in _GARBAGE[self._config["garbage"]]:
                    own_socket().sendall(message)
                time.sleep(3600)
        return super().infer(rows)


_GARBAGE = {
    "noise": [b"\xff" * 64],
    "unknown_kind": [b"\0\0\0\x07\x63\0\0\0\x02[]"],
    "wrong_batch": [encode(Done(999, [], {}))],
    "wrong_nonce": [encode(Done(1, [[1, None, 2]], {}, payloads=[b"{}"]))],
    "too_few": [encode(Done(1, [], {}))],
    "sizes": [encode(Done(1, [[1, None, 99]], {}, payloads=[b"{}"]))],
    "ready_again": [encode(Ready({}, list(SLOT_SHAPE), 0.0))],
    "front_only": [encode(Stop())],
    "wrong_type": [encode(Progress([1]))],  # type: ignore[arg-type]
    "deep": [struct.pack("!IBI", 100_005, 6, 100_000) + b"[" * 100_000],
}


def load_garbles(config: Mapping[str, Any], device: str, progress: Report) -> Fake:
    """Factory of `Garbles`."""
    return Garbles(config, device)


def load_dies(config: Mapping[str, Any], device: str, progress: Report) -> Fake:
    """A factory that takes its process down."""
    os._exit(3)


class Writes(Fake):
    """Turns its slot into its negative."""

    def _answer(self, row: Row, batch_size: int) -> bytes | Exception:
        answer = super()._answer(row, batch_size)
        row.pixels[:] = 255 - row.pixels
        return answer


def load_writes(config: Mapping[str, Any], device: str, progress: Report) -> Fake:
    """Factory of `Writes`."""
    return Writes(config, device)


class Minds(Fake):
    """Gains nothing from more than two rows at once, and says with each answer whether it had the pool to itself."""

    best_batch_size = 2
    is_alone = False

    def _answer(self, row: Row, batch_size: int) -> bytes | Exception:
        return json.dumps({"rows": batch_size, "is_alone": self.is_alone}).encode()


def load_minds(config: Mapping[str, Any], device: str, progress: Report) -> Fake:
    """Factory of `Minds`."""
    return Minds(config, device)
