"""The real server in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_TIMEOUT = 120.0
_DEFAULTS = {"PYTHONUNBUFFERED": "1", "ENGINE_LOAD_AT_START": "shapes-detect"}


@dataclass(frozen=True)
class RunningServer:
    """`url` is where it listens, `process` the front."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return httpx.get(self.url + path, timeout=30).json()

    def wait_until_ready(self) -> None:
        """Until `/healthz` says so."""
        deadline = time.monotonic() + START_TIMEOUT
        while httpx.get(self.url + "/healthz", timeout=30).status_code != 200:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)


@contextmanager
def start_server(
    *options: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    wrapper: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """`inference-engine serve` on a free port; killed at the end if it has not ended by then.

    It loads `shapes-detect` only, unless `environment` says otherwise: BLIP's libraries cost every start seconds.
    `wrapper` is a command that ends by becoming (`exec`) the one that follows it.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "server", "serve", "--port", "0", *options],
                env={**os.environ, **_DEFAULTS, **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        try:
            server = RunningServer(_address(process, log), process, log)
            if wait:
                server.wait_until_ready()
            yield server
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def running_server(
    *options: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    wrapper: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """The same; at the end it must stop cleanly on SIGTERM."""
    options = ("--lame-duck", "0", *options)
    with start_server(*options, environment=environment, wait=wait, wrapper=wrapper) as server:
        yield server
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=40) == 0, server.log.read_text()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://[\w.:\[\]]+", line):
            return found.group()
    raise AssertionError(f"the server ended before it listened: {log.read_text()}")
