"""Models without torch for the server's tests: real worker processes, made-up answers."""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.spec import Spec
from pool.model import Answers, Progress, Row


class FailedToLoadError(Exception):
    """What a factory raises when there are no weights, or wrong ones."""

    def __init__(self, code: str, permanent: bool) -> None:
        super().__init__("a text with a /secret/path")
        self.code = code
        self.permanent = permanent


class RefusedError(Exception):
    """A row that the model will not answer."""

    def __init__(self, code: str) -> None:
        super().__init__("a text with a /secret/path")
        self.code = code


class Fake:
    """Answers with the checksum of its pixels and its `version`. Config: `task`, `resize`, `side`, `load_seconds`,
    `seconds`, `fail` (a code), `permanent`, `dies` (while it loads), `version`, `ballast` (bytes held). A prompt is an order: ``sleep 0.5``, ``die``, ``raise``, ``refuse CODE``,
    ``die FOLDER`` (twice in all), ``say JSON``, ``wait PATH``."""

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        side = config.get("side", 32)
        task = config.get("task", "detect")
        self._config = config
        self._ballast = b"x" * config.get("ballast", 0)
        self._spec = Spec(
            model_id=config["model_id"],
            family="blip" if task in ("vqa", "caption") else "yolo",
            task=task,
            resize=config.get("resize", "letterbox"),
            input_height=side,
            input_width=side,
            labels=("circle", "square") if task == "detect" else (),
            device=device,
            runtime="none",
            precision="fp32",
            weights_sha256="",
        )
        self.slot_shape = self._spec.slot_shape
        self.spec = self._spec.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        started = time.monotonic()
        time.sleep(self._config.get("seconds", 0.0))
        fragments = [self._answer(row) for row in rows]
        return Answers(fragments, {"infer": time.monotonic() - started, "post": 0.0})

    def _answer(self, row: Row) -> bytes | Exception:
        order, _, argument = str(row.params.get("prompt", "")).partition(" ")
        match order:
            case "sleep":
                time.sleep(float(argument))
            case "wait":
                while not os.path.exists(argument):  # noqa: PTH110
                    time.sleep(0.005)
            case "die" if not argument or _counts_down(Path(argument)):
                os.kill(os.getpid(), signal.SIGSEGV)
            case "raise":
                raise ValueError("a text with a /secret/path")
            case "refuse":
                return RefusedError(argument)
            case "say":
                return argument.encode()
        crc = zlib.crc32(row.pixels.tobytes())
        version = self._config.get("version")
        return json.dumps(
            {"crc": crc, "params": dict(row.params), "pid": os.getpid(), "version": version}
        ).encode()


def _counts_down(folder: Path) -> bool:
    """True the first two times, whatever process asks."""
    for name in ("first", "second"):
        if not (folder / name).exists():
            (folder / name).touch()
            return True
    return False


def load(config: Mapping[str, Any], device: str, progress: Progress) -> Fake:
    """The factory."""
    progress({"stage": "download", "done_bytes": 45, "total_bytes": 100})
    time.sleep(config.get("load_seconds", 0.0))
    if config.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if fail := config.get("fail"):
        raise FailedToLoadError(fail, config.get("permanent", False))
    return Fake(config, device)
