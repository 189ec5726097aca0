from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.footprint import Footprint, footprint

MIB = 2**20
STATUS = "Name:\tx\nVmHWM:\t 900 kB\nVmRSS:\t 700 kB\nRssAnon:\t 400 kB\nThreads:\t1\n"
ROLLUP = (
    "00-ff ---p 00000000 00:00 0   [rollup]\nRss: 700 kB\nPss: 500 kB\nPss_Shmem: 120 kB\n"
    "Private_Clean: 10 kB\nPrivate_Dirty: 300 kB\n"
)


def place(proc: Path, rollup: str | None) -> None:
    (proc / "7").mkdir()
    (proc / "7" / "status").write_text(STATUS)
    if rollup is not None:
        (proc / "7" / "smaps_rollup").write_text(rollup)


def test_shares_are_counted_without_slabs_and_the_peak_with_what_was_once_more(tmp_path: Path) -> None:
    place(tmp_path, ROLLUP)
    assert footprint(7, tmp_path) == Footprint(380 * 1024, 310 * 1024, 510 * 1024)


@pytest.mark.parametrize("rollup", [None, ""])
def test_where_shares_are_not_told_anonymous_pages_are_taken(tmp_path: Path, rollup: str | None) -> None:
    place(tmp_path, rollup)
    assert footprint(7, tmp_path) == Footprint(400 * 1024, 400 * 1024, 600 * 1024)


def test_a_process_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    assert footprint(7, tmp_path) == Footprint()
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    assert footprint(gone.pid) == Footprint()


def test_a_real_process_is_measured_with_its_peak() -> None:
    program = "x = b'x' * (64 << 20); y = b'y' * (96 << 20); del y; print('here', flush=True); import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        measured = footprint(child.pid)
        child.communicate()
    assert 64 * MIB <= measured.private <= measured.fair <= 90 * MIB
    assert 160 * MIB <= measured.peak <= 186 * MIB


def test_shared_memory_is_nobodys() -> None:
    before = footprint(os.getpid())
    with mmap.mmap(-1, 48 * MIB) as shared:  # anonymous and shared, as a slab is
        shared[:] = b"x" * len(shared)
        after = footprint(os.getpid())
    assert after.fair - before.fair < 16 * MIB
