"""The server as process 1 of a container without an init."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.serving import process_state, start_server

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*UNSHARE, "true"], check=False).returncode == 0
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not _may_unshare(), reason="new process namespaces are not allowed here")
def test_as_process_one_it_reaps_what_a_killed_forkserver_leaves_and_stops_on_sigterm() -> None:
    with start_server("--lame-duck", "0", wrapper=UNSHARE) as server:
        (front,) = _children(server.process.pid)
        forkserver = _children(front)[0]  # there is one for the model and one for decoders
        workers = _children(forkserver)
        assert workers
        os.kill(forkserver, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while any(process_state(pid) != "gone" for pid in (forkserver, *workers)):
            assert time.monotonic() < deadline, [process_state(pid) for pid in (forkserver, *workers)]
            time.sleep(0.02)
        server.wait_until_ready()
        os.kill(front, signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
