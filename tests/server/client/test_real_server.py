"""Both clients against the real engine: every task, typed."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageOps

from server.cli import main
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


def test_every_task_has_its_picture(client: Any) -> None:
    for model, kind, options in (
        ("shapes-detect", "jpeg", {"confidence": 0.5}),
        ("segment", "png", {}),
        ("pose", "jpeg", {}),
        ("obb", "jpeg", {"confidence": 0.05}),
        ("classify", "png", {"top": 3}),
        ("shapes-vqa", "jpeg", {"prompt": "how many shapes are there?"}),
    ):
        with Image.open(io.BytesIO(client.picture(SAMPLE, model, kind, **options))) as picture:
            assert (picture.format or "").lower() == kind
            with Image.open(SAMPLE) as sample:
                has_band = picture.width == 640 and picture.height > 480  # of classes and answers
                assert has_band or (picture.size == sample.size and picture.tobytes() != sample.tobytes())
    with pytest.raises(RejectedError) as raised:
        client.picture(b"no image", "shapes-detect")
    assert raised.value.code == "image_undecodable"


def test_predict_saves_the_pictures_that_a_server_draws(
    server: RunningServer, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    drawn = tmp_path / "drawn"
    code = main(
        [
            "predict",
            "shapes-detect",
            str(SAMPLE.parent),
            "--server",
            server.url,
            "--save-pictures",
            str(drawn),
        ]
    )
    records = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert code == 0 and len(records) == len(list(SAMPLE.parent.glob("*.jpg")))
    assert {Path(record["picture"]) for record in records} == set(drawn.iterdir())
    for record in records:
        with Image.open(record["source"]) as source, Image.open(record["picture"]) as picture:
            assert picture.size == ImageOps.exif_transpose(source).size


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


def test_the_list_of_the_readme_is_answered(server: RunningServer) -> None:
    """With the models that are here, and the pictures in it."""
    text = (ROOT / "README.md").read_text("utf-8")
    (asked,) = re.findall(r"/inference/batch -d '(.*?)'", text, re.DOTALL)
    asked = asked.replace("yolov8n", "shapes-detect").replace("blip-vqa-base", "shapes-vqa")
    sample = f"data:image/jpeg;base64,{base64.b64encode(SAMPLE.read_bytes()).decode()}"
    asked = re.sub(r"https://[^\"]+", sample, asked)
    reply = httpx.post(f"{server.url}/inference/batch", json=json.loads(asked))
    results = reply.json()["results"]
    assert [result.get("task") for result in results] == ["detect", "detect", "vqa"], results
