"""The image leaves out what Ultralytics, OpenVINO, PyTorch and transformers bring and a server never needs: every kind of
model is converted and answers here while none of that can be imported, and none of those files is opened."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from bench.networks import save_yolo
from tests.memory import tree
from tests.models.blip_folder import save_blip
from tests.serving import RunningServer, running_server
from tests.test_containers import image_argument
from tests.test_end_to_end import as_raw, photo
from tests.test_packaging import read_lock

YOLO = {
    "detect": "yolov8n",
    "segment": "yolov8n-seg",
    "pose": "yolov8n-pose",
    "obb": "yolov8n-obb",
    "classify": "yolov8n-cls",
}
BLIP = {"vqa": "BlipForQuestionAnswering", "caption": "BlipForConditionalGeneration"}
RUNTIMES = ("torch", "openvino")
UNNEEDED_FILES = image_argument("UNNEEDED_FILES").split()
UNNEEDED_PACKAGES = set(image_argument("UNNEEDED_PACKAGES").split("|"))
TESTED = ("networkx", "numpy", "sympy")
"""Packages whose tests are left out."""

ABSENT = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    first, *rest = name.split(".")
    is_absent = first in {absent!r} or (first in {tested!r} and "tests" in rest)
    return None if is_absent else find(name, path, target)

PathFinder.find_spec = find_spec
"""


def absent_modules() -> set[str]:
    """What the packages that are left out would be imported as."""
    names = importlib.metadata.packages_distributions()
    return {name for name, owners in names.items() if UNNEEDED_PACKAGES & {owner.lower() for owner in owners}}


@pytest.fixture(scope="module")
def absence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, on the import path, makes every Python find nothing of what the image lacks."""
    folder = tmp_path_factory.mktemp("absence")
    text = ABSENT.format(absent=absent_modules(), tested=TESTED)
    (folder / "sitecustomize.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, absence: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("operator")
    lines = ["[models]"]
    for task, architecture in YOLO.items():
        save_yolo(folder / f"{task}.pt", f"{architecture}.yaml", 64)
        lines += [model(f"{task}-{runtime}", f"{task}.pt", runtime) for runtime in RUNTIMES]
    for task, architecture in BLIP.items():
        save_blip(folder / task, architecture)
        lines += [model(f"{task}-{runtime}", task, runtime, 'family = "blip", ') for runtime in RUNTIMES]
    (folder / "engine.toml").write_text("\n".join(lines))
    environment = {
        "PYTHONPATH": f"{absence}:{os.environ.get('PYTHONPATH', '')}",
        "ENGINE_CONVERTED_DIR": str(folder / "converted"),  # nothing was converted before
    }
    options = ("--config", str(folder / "engine.toml"), "--load-at-start", "")
    with running_server(*options, environment=environment) as server:
        yield server


def model(name: str, weights: str, runtime: str, more: str = "") -> str:
    return f'{name} = {{ weights = "{weights}", runtime = "{runtime}", {more}replicas = 1 }}'


def mapped_files(server: RunningServer) -> set[str]:
    """Libraries that the server and its workers have loaded, below the folder that packages lie in."""
    found: set[str] = set()
    for pid in tree(server.process.pid):
        text = Path(f"/proc/{pid}/maps").read_text()
        found |= set(re.findall(r"/site-packages/(\S+)$", text, re.MULTILINE))
    return found


def test_what_is_left_out_is_locked_and_would_be_found_without_this(absence: Path) -> None:
    modules = absent_modules()
    locked = read_lock("requirements-cpu.lock").keys()
    code = (
        "import sys; from importlib.util import find_spec; print([n for n in sys.argv[1:] if find_spec(n)])"
    )
    environment = {**os.environ, "PYTHONPATH": str(absence)}
    asked = [sys.executable, "-c", code, *sorted(modules), "numpy"]

    assert locked >= UNNEEDED_PACKAGES, "a package that is gone from the lock need not be left out"
    assert {"matplotlib", "polars", "dateutil"} <= modules
    assert subprocess.check_output(asked, env=environment, text=True).strip() == "['numpy']"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("task", [*YOLO, *BLIP])
def test_every_kind_of_model_answers_without_what_the_image_lacks(
    server: RunningServer, task: str, runtime: str
) -> None:
    options: dict[str, Any] = {"prompt": "how many cats are there?"} if task == "vqa" else {}
    reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id=f"{task}-{runtime}", **options)

    assert (reply.status_code, reply.json()["task"]) == (200, task), server.log.read_text()
    assert server.get(f"/models/{task}-{runtime}")["runtime"] == runtime, "converted, not refused"
    mapped = mapped_files(server)
    assert any(name.startswith("torch/lib/") for name in mapped), "or this sees nothing"
    assert runtime != "openvino" or any(name.startswith("openvino/libs/") for name in mapped)
    assert [name for name in mapped if any(fnmatch(name, each) for each in UNNEEDED_FILES)] == []
    assert "ModuleNotFoundError" not in server.log.read_text()
