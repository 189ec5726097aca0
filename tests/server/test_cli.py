"""The command in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENGINE_")}
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}


def run(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_models_lists_what_can_be_served(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text('[models.mine]\nweights = "mine.pt"\ndescription = "My own."\n')
    done = run(environment, "models", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert (
        "at start" in rows["shapes-detect"] and "on demand" in rows["yolov8n"] and "My own." in rows["mine"]
    )


def test_pull_finds_what_is_there_and_says_what_is_not(environment: dict[str, str], tmp_path: Path) -> None:
    weights = tmp_path / "cache" / "yolov8n.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"PK\x03\x04")
    environment |= {"ULTRALYTICS_CACHE_DIR": str(weights.parent), "ENGINE_OFFLINE": "true"}
    done = run(environment, "pull", "yolov8n", cwd=tmp_path)
    assert (done.returncode, str(weights) in done.stdout) == (0, True), done.stderr
    done = run(environment, "pull", "yolov8n", "yolov8s", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "yolov8s" in done.stderr and "ULTRALYTICS_CACHE_DIR" in done.stderr and "Traceback" not in done.stderr
    )
    done = run(environment, "pull", "nope", cwd=tmp_path)
    assert done.returncode == 2
    assert "no model nope" in done.stderr


@pytest.mark.parametrize(("arguments", "code", "part"), [
    (["serve", "--port", "x"], 78, "port = 'x' (command line --port)"),
    (["serve", "--por", "1"], 78, "did you mean --port?"), (["nope"], 2, "invalid choice"), ([], 2, "required"),
    (["pull", "yolov8n", "--por", "1"], 2, "unrecognized arguments: --por"),
    (["pull", "yolov8n", "--config", "no.toml"], 78, "no.toml cannot be read"),
])  # fmt: skip
def test_wrong_arguments_are_named(
    environment: dict[str, str], tmp_path: Path, arguments: list[str], code: int, part: str
) -> None:
    done = run(environment, *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_started_is_said_in_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(
            environment, "serve", "--port", str(taken.getsockname()[1]), "--load-at-start", "", cwd=tmp_path
        )
    assert done.returncode == 78
    assert "cannot listen on 127.0.0.1 port" in done.stderr and "Traceback" not in done.stderr
    for arguments, part in (
        (["--device", "cuda"], "there is no GPU"),
        (["--load-at-start", "nope"], "there is no model 'nope'"),
    ):
        done = run(environment, "serve", *arguments, cwd=tmp_path)
        assert (done.returncode, part in done.stderr) == (78, True), done.stderr


@pytest.fixture
def served(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "server",
        "serve",
        "--port",
        "0",
        "--load-at-start",
        "",
        "--log-format",
        "json",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        yield process
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_serve_says_where_it_listens_and_stops_when_asked(
    served: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert served.stdout is not None
    said = [served.stdout.readline() for _ in range(4)]
    address = re.search(r"http://127\.0\.0\.1:\d+", said[0])
    assert address is not None, (said, (tmp_path / "log").read_text())
    assert said[1].startswith("Try it:  curl -F model_id=shapes-detect -F image=@") and address[0] in said[1]
    assert said[3].strip().endswith("/docs")
    sample = re.search(r"image=@(\S+)", said[1])
    assert sample is not None and (tmp_path / sample[1]).is_file(), "the line works as it is"
    with httpx.Client(base_url=address[0], trust_env=False) as client:
        deadline = time.monotonic() + 60
        while client.get("/healthz").json()["status"] != "ready":  # the decoders come a moment later
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
        assert client.get("/docs").status_code == 200
        served.send_signal(signal.SIGINT)
        assert served.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and '"path":"/docs"' in log and '"path":"/healthz","status":200' not in log


def test_uvicorn_runs_the_factory_but_not_with_several_workers(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "server.app:create_app",
        "--factory",
        "--port",
        "0",
        "--workers",
        "2",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "ENGINE_LOAD_AT_START": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "replicas, not --workers" in done.stderr  # and it ended, instead of starting workers for ever
    assert "Application startup complete" not in done.stderr


def test_the_command_is_light_until_it_is_run(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import sys, server.cli; print([n for n in ('pydantic', 'uvicorn', 'numpy', 'starlette', 'torch') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
