"""The image's command under the image's conditions, without Docker: its user, its variables, nothing to write to but
/tmp and /models, no capabilities."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.serving import RunningServer, start_process
from tests.hostile.target import SAMPLE
from tests.serving import CONVERTED_DIR
from tests.test_containers import final_stage, image_environment, image_healthcheck, one, read_dockerfile
from tests.test_end_to_end import as_raw

ROOT = Path(__file__).parents[1]
SERVED = {"ENGINE_LOAD_AT_START": "shapes-detect", "ENGINE_THREADS": "1", "ENGINE_PRECISION": "fp32"}
"""As in the other tests, which have converted it already."""
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
KERNEL_ALLOWS = (
    all(map(shutil.which, ("unshare", "pivot_root", "mount")))
    and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
)
pytestmark = pytest.mark.skipif(not KERNEL_ALLOWS, reason="needs user and mount namespaces")


def user_id() -> str:
    (number,) = re.findall(r"useradd --uid (\d+) .*?\bengine\b", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    return str(number)


def confined(*command: str) -> list[str]:
    """`command` as the container would run it; of the machine's variables none is left."""
    variables = {**image_environment(), **SERVED, "ENGINE_ACCELERATOR": "cuda"}
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables["PYTHONPATH"] = str(ROOT)
    keep = [f"{name}={value}" for name, value in variables.items()]
    sandbox = [sys.executable, str(ROOT / "tests" / "sandbox.py"), str(ROOT), str(CONVERTED_DIR), user_id()]
    return [*UNSHARE, *sandbox, "env", "-i", *keep, *command]


@contextmanager
def container() -> Iterator[RunningServer]:
    program, *arguments = json.loads(one(final_stage(read_dockerfile()), "CMD"))
    arguments[arguments.index("--port") + 1] = "0"
    assert program == "inference-engine"
    with start_process(confined("python", "-m", "server", *arguments)) as server:
        yield server


def test_the_sandbox_is_one() -> None:
    code = """
import os, pathlib
print(os.getuid(), open("/proc/self/status").read().split("CapEff:")[1].split()[0])
for folder in ("/", "/usr", "/etc", os.environ["PYTHONPATH"], "/tmp", "/models"):
    try:
        pathlib.Path(folder, "written").touch()
        print("wrote", folder)
    except OSError as error:
        print(error.strerror, folder)
"""
    done = subprocess.run(confined("python", "-c", code), capture_output=True, text=True, timeout=60)
    first, *lines = done.stdout.splitlines()
    assert first == f"{user_id()} 0000000000000000", done.stderr
    assert [line.startswith("wrote") for line in lines] == [False] * 4 + [True] * 2, lines


def test_the_images_command_serves_under_the_images_conditions() -> None:
    with container() as server:
        reply = as_raw(server.url + "/inference", SAMPLE.read_bytes())
        assert reply.status_code == 200 and reply.json()["predictions"]
        port = server.url.rpartition(":")[2]
        python, *options = image_healthcheck()
        check = [sys.executable, *(text.replace("5000", port) for text in options)]
        assert python == "python" and subprocess.run(check, timeout=60).returncode == 0
        assert server.stop() == 0
        log = server.log.read_text()
    assert "Traceback" not in log and "Read-only file system" not in log
    assert "no GPU is to be seen" in log, "an image made for GPUs says so"
