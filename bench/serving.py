"""A server in a process of its own, from its first line of output to its exit code. For benches and tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_TIMEOUT = 300.0
STOP_TIMEOUT = 40.0


def get(url: str) -> httpx.Response:
    """A GET of this machine. Without proxies and without reading certificates, which takes longer than the rest."""
    return httpx.get(url, timeout=30, trust_env=False, verify=False)


@dataclass(frozen=True)
class RunningServer:
    """`url` is where it listens, `process` the front."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return get(self.url + path).json()

    def wait_until_ready(self) -> None:
        """Until `/healthz` says so."""
        deadline = time.monotonic() + START_TIMEOUT
        while get(self.url + "/healthz").status_code != 200:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_TIMEOUT)


@contextmanager
def start_process(
    command: Sequence[str], environment: Mapping[str, str] | None = None, wait: bool = True
) -> Iterator[RunningServer]:
    """Run `command`, which prints its address once it listens; killed at the end if it has not ended by then."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
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


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://[\w.:\[\]]+", line):
            return found.group()
    raise AssertionError(f"the server ended before it listened: {log.read_text()}")
