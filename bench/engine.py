"""The engine as the benches start it: one model of the operator's, nothing answered that was not computed."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.serving import RunningServer, start_process

MODEL = "bench"
ENVIRONMENT = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
    "ENGINE_LAME_DUCK": "0",
}


@contextmanager
def engine(
    weights: str, options: Mapping[str, str] | None = None, also: Sequence[str] = ()
) -> Iterator[RunningServer]:
    """`inference-engine serve` with `weights` as the model `bench`, ready; it must stop cleanly. `options` are
    settings by name, `also` further models that it loads. De-duplication and response cache are off, as they are
    by default."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "engine.toml"
        config.write_text(f"[models.{MODEL}]\nweights = {json.dumps(str(Path(weights).resolve()))}\n")
        command = [sys.executable, "-m", "server", "serve", "--port", "0", "--config", str(config)]
        command += ["--load-at-start", ",".join((MODEL, *also)), "--log-format", "json"]
        with start_process(command, {**ENVIRONMENT, **_variables(options)}) as server:
            yield server
            stop_cleanly(server)


@contextmanager
def noop_engine(options: Mapping[str, str] | None = None) -> Iterator[RunningServer]:
    """The engine with a model that does nothing (`bench.noop`). `options` are settings by name."""
    command = [sys.executable, "-m", "bench.noop", "--port", "0"]
    with start_process(command, {**ENVIRONMENT, **_variables(options)}) as server:
        yield server
        stop_cleanly(server)


def _variables(options: Mapping[str, str] | None) -> dict[str, str]:
    return {f"ENGINE_{name.upper()}": str(value) for name, value in (options or {}).items()}


def stop_cleanly(server: RunningServer) -> None:
    """SIGTERM. Raises RuntimeError when it does not end with 0."""
    if (code := server.stop()) != 0:
        raise RuntimeError(f"the server ended with {code}: {server.log.read_text()[-4000:]}")


def executed_by(server: RunningServer, model: str = MODEL) -> dict[str, Any]:
    """Runtime, precision and number of replicas of `model`, as the server tells them."""
    told = server.get(f"/models/{model}")
    return {
        "runtime": told.get("runtime"),
        "precision": told.get("precision"),
        "replicas": len(told["replicas"]),
    }
