"""Starting and ending a peer, with processes that are none."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.peers.launching import PeerFailedError, _Start, end

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_what_a_peer_started_ends_with_it_even_in_a_session_of_its_own() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.stdout.close()
    end(process)
    assert process.returncode is not None
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_peer_that_ends_instead_of_loading_is_reported_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("no such module")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    start = _Start(process, log, time.monotonic() + 30)
    with pytest.raises(PeerFailedError, match="ended with 3: no such module"):
        start.wait_until_ready(tmp_path, 1)


def test_a_peer_is_not_measured_before_all_of_its_workers_are_ready(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("")
    (tmp_path / "1.json").write_text("{}")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with pytest.raises(PeerFailedError, match="1 of 2 workers"):
            _Start(process, log, time.monotonic() - 1).wait_until_ready(tmp_path, 2)
        assert len(_Start(process, log, time.monotonic() + 30).wait_until_ready(tmp_path, 1)) == 1
    finally:
        process.kill()
        process.wait()
