"""`inference-engine doctor` in a process of its own, as a user runs it. Nothing leaves loopback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models.catalogue import CATALOGUE
from tests.models import fake_hub
from tests.models.fake_hub import FakeHub
from tests.models.file_server import ServedFile, serving
from tests.server.test_weights_commands import read_terminal

ROOT = Path(__file__).resolve().parents[3]
TITLES = [
    "Settings",
    "Versions",
    "GPU",
    "CPU",
    "Plan",
    "Memory and limits",
    "Folders",
    "Weights",
    "Port",
    "Keys",
    "Network",
]
FAKE_TORCH = "__version__ = '2.15.0'\ncuda = None\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Offline, with a torch that cannot be imported: the real one takes seconds, and this is the harder case."""
    library = tmp_path / "library" / "torch"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text(
        "raise ImportError('libcudart.so.13: cannot open shared object file')\n"
    )
    (library / "version.py").write_text(FAKE_TORCH)
    dropped = ("ENGINE_", "CUDA_", "HF_", "HUGGINGFACE_", "ULTRALYTICS_CACHE", "YOLO_CONFIG")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and not name.lower().endswith("_proxy")
    }
    return {
        **kept, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join((str(library.parent), str(ROOT))),
        "ENGINE_OFFLINE": "true", "ENGINE_PORT": "0",
    }  # fmt: skip


def run(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server", "doctor", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110)


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """By section."""
    assert done.stderr == ""
    return {section["title"]: section["findings"] for section in json.loads(done.stdout)["sections"]}


def test_a_broken_torch_is_a_problem_and_everything_else_is_still_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(environment, "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = findings(done)
    assert list(found) == TITLES
    problems = [each for section in found.values() for each in section if each["status"] == "problem"]
    assert [each["name"] for each in problems] == ["torch"] and "libcudart.so.13" in problems[0]["text"]
    assert {each["status"] for each in found["Weights"] + found["Port"] + found["Plan"]} == {"ok"}
    assert len(found["Plan"]) == 2


def test_a_torch_that_works_is_no_problem_and_the_text_is_plain(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["PYTHONPATH"] = str(ROOT)
    environment["CUDA_VISIBLE_DEVICES"] = ""
    done = run(environment, "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in TITLES] == TITLES
    assert any(line.startswith("  ok       torch 2.") and "can be imported" in line for line in lines)
    assert lines[-1].startswith("no problems") and "\x1b" not in done.stdout


def test_hosts_are_asked_and_what_is_needed_at_start_fails_the_command(
    environment: dict[str, str], tmp_path: Path
) -> None:
    hub = FakeHub(CATALOGUE["blip-vqa-base"].weights, {})
    with serving(ServedFile(b"", status=404)) as file, fake_hub.serving(hub):
        environment |= {
            "ENGINE_OFFLINE": "false", "ENGINE_YOLO_WEIGHTS_URL": file.url, "HF_ENDPOINT": hub.url,
            "ULTRALYTICS_CACHE_DIR": str(tmp_path / "weights"),
        }  # fmt: skip
        found = findings(run(environment, "--json", "--load-at-start", "yolov8n", cwd=tmp_path))
    assert [each["status"] for each in found["Network"]] == ["problem", "ok"]
    assert "yolov8n loads at start" in found["Network"][0]["text"]
    assert found["Weights"][0]["status"] == "warning"
    assert not (tmp_path / "weights").exists(), "looking changes nothing"


def test_a_home_that_cannot_be_written_to_is_told_and_survived(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment |= {"HOME": "/proc/1/nowhere", "ENGINE_OFFLINE": "false", "ENGINE_ON_DEMAND": "off"}
    found = findings(run(environment, "--json", cwd=tmp_path))
    assert list(found) == TITLES
    assert any(each["name"] == "temporary" and each["status"] == "warning" for each in found["Folders"])


def test_a_gpu_that_was_asked_for_and_is_not_there_fails_the_command(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = run(environment, "--json", "--device", "cuda:99", cwd=tmp_path)
    assert done.returncode == 1
    found = findings(done)
    assert any(each["status"] == "problem" and "cuda:99" in each["text"] for each in found["GPU"])
    assert found["Plan"][0]["status"] == "problem" and "cuda:99" in found["Plan"][0]["text"]


def test_wrong_settings_are_problems_in_the_same_form(environment: dict[str, str], tmp_path: Path) -> None:
    done = run(environment | {"ENGINE_DEVICE": "gpu"}, "--json", cwd=tmp_path)
    assert done.returncode == 1
    (problem,) = findings(done)["Settings"]
    assert "device = 'gpu' (environment ENGINE_DEVICE)" in problem["text"]
    done = run(environment, "--load-at-start", "nope", cwd=tmp_path)
    assert (
        done.returncode == 1 and "there is no model 'nope'" in done.stdout and "Traceback" not in done.stderr
    )


def test_on_a_terminal_it_is_coloured(environment: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "doctor", "--port", "x"],
        cwd=tmp_path, env=environment | {"TERM": "xterm-256color", "COLUMNS": "100"}, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    shown = read_terminal(ours)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, b"")
    assert "\x1b[" in shown and "problem" in shown and "port = 'x'" in shown
