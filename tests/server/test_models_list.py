"""`inference-engine models` in a process of its own, where it writes to a pipe, a closed one, or a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from models.parity import read
from server.cli import EXIT_PIPE

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "server", "models"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "yolov8n.pt").write_bytes(b"x" * 6_500_000)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "ULTRALYTICS_CACHE_DIR": str(tmp_path),
        "COLUMNS": "250",
        "TERM": "xterm",
    }


def test_the_list_says_what_is_on_disk_and_how_near_it_is_to_the_library(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "engine.toml").write_text('[models.mine]\nweights = "mine.pt"\n')
    done = subprocess.run(COMMAND, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert lines[0].split() == ["name", "task", "loads", "on", "disk", "parity", "description"]
    assert "6.5 MB" in rows["yolov8n"] and "MB" not in rows["yolov8s"]
    assert str(read()[1]["yolov8"]) in rows["yolov8n"] and str(read()[1]["yolov8"]) in rows["yolov8s"]
    assert rows["mine"].split()[:6] == ["mine", "?", "on", "demand", "-", "-"]
    assert "\x1b" not in done.stdout


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def test_on_a_terminal_it_is_a_table(environment: dict[str, str], tmp_path: Path) -> None:
    with terminal() as (ours, theirs):
        process = subprocess.Popen(COMMAND, cwd=tmp_path, env=environment, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:
            pass  # a terminal whose other end is closed says so like this
        assert process.wait(60) == 0
    assert b"\x1b[1m" in shown and b"yolov8n" in shown and b"6.5 MB" in shown


def test_who_closes_the_pipe_early_gets_no_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        COMMAND, cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_PIPE, "")
