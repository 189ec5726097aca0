"""`inference-engine quantize` as it is used: in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.quantisation import _spread

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "models" / "demo" / "samples"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    ours = {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "ENGINE_CONVERTED_DIR": str(tmp_path / "converted"),
    }
    return {**kept, **ours, "CUDA_VISIBLE_DEVICES": ""}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "quantize", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize(
    ("name", "folder", "code", "said"),
    [
        ("nope", SAMPLES, 2, "no model nope"),
        ("shapes-vqa", SAMPLES, 2, "needs no calibration"),
        ("shapes-detect", SAMPLES / "nowhere", 2, "no folder with files"),
        ("yolov8n", SAMPLES, 1, "yolov8n"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(
    name: str, folder: Path, code: int, said: str, environment: dict[str, str]
) -> None:
    done = run(environment | {"ENGINE_OFFLINE": "true"}, name, "--images", str(folder))
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="the extra int8 is not installed")
def test_it_says_how_the_network_agrees_and_how_fast_it_is(
    environment: dict[str, str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SAMPLES, tmp_path / "pictures"))
    (folder / "note.txt").write_text("not a picture")
    done = run(environment, "shapes-detect", "--images", str(folder), "--max-images", "50")
    assert done.returncode == 0, done.stderr
    kept, agreement, speed, last = done.stdout.splitlines()
    assert str(tmp_path / "converted") in kept
    found = re.search(r"([\d.]+) % of \d+ likeliest answers found", agreement)
    assert found is not None and float(found[1]) >= 97.0
    assert "times as fast" in speed and "int8" in last
    assert "note.txt" in done.stderr


def test_of_many_files_those_are_taken_that_lie_far_apart() -> None:
    paths = [Path(str(number)) for number in range(10)]
    assert _spread(paths, 5) == paths[::2]
    assert _spread(paths, 10) == _spread(paths, 99) == paths
