"""Both clients against the real engine: every task, typed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.client import RejectedError
from tests.server.client.conftest import MakeClient
from tests.serving import RunningServer, running_server

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "models/demo/samples/sample.jpg"
TASKS = ("segment", "pose", "obb", "classify")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = tmp_path_factory.mktemp("engine") / "engine.toml"
    tables = [
        f'[models.{task}]\nweights = "{ROOT}/tests/weights/{task}.pt"\nruntime = "torch"\n' for task in TASKS
    ]
    config.write_text("max_loaded_models = 6\n" + "".join(tables))
    environment = {"ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa"}
    with running_server("--config", str(config), environment=environment) as server:
        yield server


@pytest.fixture
def client(make_client: MakeClient, server: RunningServer) -> Any:
    return make_client(server.url)


def test_every_task_has_its_typed_answer(client: Any) -> None:
    found = client.infer(SAMPLE, "shapes-detect", confidence=0.5)
    assert (found.task, found.image.width, found.image.height) == ("detect", 640, 480)
    assert all(each.confidence >= 0.5 and each.box.x2 > each.box.x1 for each in found.predictions)
    assert found.predictions[0].label == "circle" and found.timings_ms["total"] > 0
    assert len(client.infer(SAMPLE, "segment").predictions[0].polygon) > 2
    masks = client.infer(SAMPLE, "segment", masks="rle").predictions
    assert masks[0].mask.size == (480, 640) and masks[0].polygon is None
    assert client.infer(SAMPLE, "pose").predictions[0].keypoints[0].confidence is not None
    assert len(client.infer(SAMPLE, "obb", confidence=0.05).predictions[0].corners) == 4
    assert len(client.infer(SAMPLE, "classify", top=3).top) == 3
    assert client.ask(SAMPLE, "how many shapes are there?", "shapes-vqa").answer.isdigit()
    both = client.ask(SAMPLE, ["how many shapes are there?", "is there a circle?"], "shapes-vqa").answers
    assert [each.prompt for each in both] == ["how many shapes are there?", "is there a circle?"]
    with pytest.raises(RejectedError) as raised:
        client.caption(SAMPLE, "shapes-vqa", top=2)
    assert raised.value.code == "invalid_parameter"


def test_the_example_of_the_readme_runs(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(from server.client .*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)
    command = [sys.executable, "-c", code.replace("http://127.0.0.1:5000", server.url)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("circle 0.97") and done.stdout.splitlines()[-1].isdigit()


def test_models_are_listed_loaded_and_unloaded(client: Any) -> None:
    states = {model.model_id: model for model in client.models()}
    assert states["shapes-detect"].is_ready and "circle" in states["shapes-detect"].labels
    assert client.load("shapes-detect").state == "ready"
    assert client.unload("yolov8n").state == client.model("yolov8n").state == "unloaded"
    assert (client.ready(), client.live()) == (True, True)
    with pytest.raises(RejectedError) as raised:
        client.model("no/such model")
    assert raised.value.status == 404
