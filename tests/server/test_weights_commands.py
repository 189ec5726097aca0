"""`inference-engine pull` and `models` as they are used: in a process of their own, against real hosts on loopback."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.models import fake_hub
from tests.models.fake_hub import FakeHub
from tests.models.file_server import ServedFile, serving, serving_all

ROOT = Path(__file__).resolve().parents[2]
BODY = b"PK\x03\x04" + os.urandom(3_000_000)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    caches = {
        "ULTRALYTICS_CACHE_DIR": str(tmp_path / "cache"),
        "HUGGINGFACE_HUB_CACHE": str(tmp_path / "hub"),
    }
    return {**kept, **caches, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "ENGINE_DOWNLOAD_TIMEOUT": "5"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "server", *arguments]


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), env=environment, capture_output=True, text=True, timeout=60)


def test_several_models_are_pulled_and_each_that_fails_has_one_line(
    environment: dict[str, str], tmp_path: Path
) -> None:
    served = {
        "yolov8n.pt": ServedFile(BODY),
        "yolov8s.pt": ServedFile(b"", status=404),
        "yolov8m.pt": ServedFile(BODY),
    }
    with serving_all(served.__getitem__) as url:
        done = run(
            environment | {"ENGINE_YOLO_WEIGHTS_URL": url}, "pull", "yolov8n", "yolov8s", "yolov8m", "yolov8n"
        )
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["yolov8n", "yolov8m"]
    assert (tmp_path / "cache" / "yolov8m.pt").read_bytes() == BODY
    failed = [line for line in done.stderr.splitlines() if line.startswith("inference-engine:")]
    assert len(failed) == 1
    assert "yolov8s" in failed[0] and "answered 404" in failed[0]
    assert "Traceback" not in done.stderr


def test_a_hub_that_fails_is_one_line_as_well(environment: dict[str, str]) -> None:
    with fake_hub.serving(FakeHub("Salesforce/blip-vqa-base", {}, status=404)) as hub:
        done = run(environment | {"HF_ENDPOINT": hub.url}, "pull", "blip-vqa-base")
    assert (done.returncode, done.stdout) == (1, "")
    assert [line for line in done.stderr.splitlines() if "blip-vqa-base" in line and "answered 404" in line]
    assert "Traceback" not in done.stderr


def test_without_a_terminal_progress_is_plain_lines(environment: dict[str, str]) -> None:
    with serving(ServedFile(BODY, rate=4e6)) as file:
        done = run(environment | {"ENGINE_YOLO_WEIGHTS_URL": file.url}, "pull", "yolov8n")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"yolov8n: 3\.0 of 3\.0 MB, 100 %, \d+\.\d MB/s", lines[-1]), lines
    assert "\x1b" not in done.stderr and "\r" not in done.stderr


def test_on_a_terminal_progress_is_a_bar_with_percent_bytes_and_speed(environment: dict[str, str]) -> None:
    with serving(ServedFile(BODY, rate=2e6)) as file:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            command("pull", "yolov8n"),
            env=environment | {"ENGINE_YOLO_WEIGHTS_URL": file.url, "TERM": "xterm", "COLUMNS": "120"},
            stdout=subprocess.PIPE, stderr=theirs, text=True,
        )  # fmt: skip
        os.close(theirs)
        shown = read_terminal(ours)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    percents = {int(found) for found in re.findall(r"(\d+)%", shown)}
    assert 100 in percents and any(0 < percent < 100 for percent in percents), shown
    assert re.search(r"/3\.0 MB", shown) and re.search(r"[kM]B/s", shown), shown
    assert printed.startswith("yolov8n: ") and "\x1b" not in printed, "the result is not part of the show"


def read_terminal(descriptor: int) -> str:
    """Everything until the other side is closed."""
    shown = b""
    while True:
        try:
            shown += (piece := os.read(descriptor, 65536))
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
    os.close(descriptor)
    return shown.decode(errors="replace")


def test_after_ctrl_c_the_same_command_goes_on_from_there(
    environment: dict[str, str], tmp_path: Path
) -> None:
    partial = tmp_path / "cache" / "yolov8n.pt.part"
    with serving(ServedFile(BODY, rate=5e5)) as file:
        environment |= {"ENGINE_YOLO_WEIGHTS_URL": file.url}
        process = subprocess.Popen(
            command("pull", "yolov8n"), env=environment, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while not partial.exists() or partial.stat().st_size < 300_000:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)
        assert process.returncode == 130
        assert "interrupted" in said and "Traceback" not in said
        file.rate = None
        done = run(environment, "pull", "yolov8n")
        assert done.returncode == 0, done.stderr
        assert int(file.requests[-1]["Range"].removeprefix("bytes=").removesuffix("-")) >= 300_000
    assert (tmp_path / "cache" / "yolov8n.pt").read_bytes() == BODY


def test_ctrl_c_does_not_wait_for_a_silent_hub(environment: dict[str, str], tmp_path: Path) -> None:
    gate = threading.Event()
    with fake_hub.serving(FakeHub("Salesforce/blip-vqa-base", {}, gate=gate)) as hub:
        environment |= {"HF_ENDPOINT": hub.url, "ENGINE_DOWNLOAD_TIMEOUT": "60"}
        process = subprocess.Popen(
            command("pull", "blip-vqa-base"), env=environment, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 30
        while not hub.paths:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130
        assert time.monotonic() - started < 10
        gate.set()


@pytest.mark.parametrize("arguments", [("models",), ("--help",), ("serve", "--help")])
def test_a_reader_that_leaves_early_is_no_error_worth_a_traceback(
    environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        command(*arguments), env=environment, stdout=theirs, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(theirs)
    assert done.stderr == ""
    assert done.returncode == (
        141 if arguments == ("models",) else 0
    )  # argparse itself forgives a closed pipe
