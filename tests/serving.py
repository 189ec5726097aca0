"""The real server in a process of its own, as a user starts it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.serving import RunningServer, start_process

__all__ = ["RunningServer", "process_state", "running_server", "start_server"]

CONVERTED_DIR = Path(tempfile.gettempdir()) / "engine-tests-converted"
"""One for all runs: converting takes seconds, and an entry is never taken for other weights or libraries."""
_DEFAULTS = {
    "ENGINE_LOAD_AT_START": "shapes-detect",
    "ENGINE_CONVERTED_DIR": str(CONVERTED_DIR),
    "ENGINE_THREADS": "1",  # replicas stay as they were placed, whatever is measured
    "ENGINE_PRECISION": "fp32",  # answers are compared with the library's, on machines with coarser units too
}


@contextmanager
def start_server(
    *options: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    wrapper: Sequence[str] = (),
    module: str = "server",
) -> Iterator[RunningServer]:
    """`inference-engine serve` on a free port; killed at the end if it has not ended by then.

    It loads `shapes-detect` only, unless `environment` says otherwise: BLIP's libraries cost every start seconds.
    `wrapper` is a command that ends by becoming (`exec`) the one that follows it, `module` what Python runs.
    """
    command = [*wrapper, sys.executable, "-m", module, "serve", "--port", "0", *options]
    with start_process(command, {**_DEFAULTS, **(environment or {})}, wait) as server:
        yield server


@contextmanager
def running_server(
    *options: str,
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
    wrapper: Sequence[str] = (),
    module: str = "server",
) -> Iterator[RunningServer]:
    """The same; at the end it must stop cleanly on SIGTERM."""
    options = ("--lame-duck", "0", *options)
    with start_server(*options, environment=environment, wait=wait, wrapper=wrapper, module=module) as server:
        yield server
        assert server.stop() == 0, server.log.read_text()


def process_state(pid: int) -> str:
    """The kernel's letter for it, ``Z`` for one that is dead and not reaped; ``gone``."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"
