"""The real server with models that are not there at start: downloaded, loaded, answered, or honestly refused."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.models.blip_folder import save_blip
from tests.models.file_server import ServedFile, serving
from tests.models.networks import save_yolo
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import SAMPLES, as_raw, assert_same_boxes, photo

PROMPTS = ["how many cats are there?", "what is the colour of the bus?", "is there a man"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFile]:
    """Stands in for the place that YOLO weights come from; the first transfer breaks off half-way."""
    weights = save_yolo(tmp_path_factory.mktemp("release") / "yolov8n.pt").read_bytes()
    with serving(ServedFile(weights, cut_at=len(weights) // 2)) as release:
        yield release


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's: engine.toml, a BLIP checkpoint, an empty cache."""
    folder = tmp_path_factory.mktemp("operator")
    save_blip(folder / "tiny")
    save_blip(folder / "captions", "BlipForConditionalGeneration")
    tables = [
        f'[models.{name}]\nweights = "{name}"\nfamily = "blip"\nreplicas = 1\n'
        for name in ("tiny", "captions")
    ]
    wrong = '[models.wrong]\nweights = "captions"\ntask = "vqa"\n'
    (folder / "engine.toml").write_text("".join([*tables, wrong]))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, release: ServedFile) -> Iterator[RunningServer]:
    options = ["--config", str(folder / "engine.toml"), "--yolo-weights-url", release.url]
    with running_server(*options, environment={"ULTRALYTICS_CACHE_DIR": str(folder / "cache")}) as server:
        yield server


def test_a_first_request_downloads_the_model_and_is_answered(
    server: RunningServer, release: ServedFile, folder: Path
) -> None:
    assert server.get("/models/yolov8n")["state"] == "unloaded"
    reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id="yolov8n", confidence=0.3)
    assert reply.status_code == 200, server.log.read_text()
    assert len(release.requests) == 2, "a broken transfer is taken up again"
    assert (folder / "cache" / "yolov8n.pt").read_bytes() == release.body
    assert server.get("/models/yolov8n")["state"] == "ready"

    from ultralytics import YOLO

    library: Any = YOLO(folder / "cache" / "yolov8n.pt")
    path = folder / "bus.jpg"
    path.write_bytes(photo("bus.jpg"))
    expected = library.predict(path, rect=False, conf=0.3, verbose=False)[0].boxes
    found = reply.json()["predictions"]
    assert found
    assert_same_boxes(found, expected)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_question_is_answered_as_the_library_does(server: RunningServer, folder: Path, prompt: str) -> None:
    from transformers import BlipForQuestionAnswering, BlipProcessor

    reply = as_raw(
        server.url + "/inference", photo("zidane.jpg"), model_id="tiny", prompt=prompt, max_new_tokens=6
    )
    assert reply.status_code == 200, reply.text
    processor: Any = BlipProcessor.from_pretrained(folder / "tiny", backend="pil")
    network: Any = BlipForQuestionAnswering.from_pretrained(folder / "tiny").eval()
    inputs = processor(images=Image.open(io.BytesIO(photo("zidane.jpg"))), text=prompt, return_tensors="pt")
    tokens = network.generate(**inputs, do_sample=False, max_new_tokens=6)
    assert reply.json()["answer"] == processor.decode(tokens[0], skip_special_tokens=True)
    assert reply.json()["prompt"] == prompt
    assert reply.json()["task"] == "vqa"


def test_a_caption_is_the_librarys_and_begins_with_the_prefix(server: RunningServer, folder: Path) -> None:
    """The operator did not say the task: the folder tells it."""
    from transformers import BlipForConditionalGeneration, BlipProcessor

    processor: Any = BlipProcessor.from_pretrained(folder / "captions", backend="pil")
    network: Any = BlipForConditionalGeneration.from_pretrained(folder / "captions").eval()
    picture = Image.open(io.BytesIO(photo("bus.jpg")))
    for prompt in (None, "a big red"):
        given = {} if prompt is None else {"prompt": prompt}
        url = server.url + "/inference"
        reply = as_raw(url, photo("bus.jpg"), model_id="captions", max_new_tokens=6, **given)
        assert reply.status_code == 200, reply.text
        texts = {} if prompt is None else {"text": prompt}
        tokens = network.generate(
            **processor(images=picture, return_tensors="pt", **texts), do_sample=False, max_new_tokens=6
        )
        found = reply.json()
        assert found["caption"] == processor.decode(tokens[0], skip_special_tokens=True)
        assert (found["task"], found.get("prompt")) == ("caption", prompt)
    assert server.get("/models/captions")["task"] == "caption"


def test_many_questions_about_one_picture_are_answered_in_order_and_the_picture_is_remembered(
    server: RunningServer,
) -> None:
    url, picture = server.url + "/inference", photo("bus.jpg")
    first = as_raw(url, picture, model_id="tiny", prompts=PROMPTS * 4, max_new_tokens=6).json()
    assert [each["prompt"] for each in first["answers"]] == PROMPTS * 4
    assert first["answers"][:3] == first["answers"][3:6]
    assert first["vision_cached"] is False
    for each in first["answers"][:3]:
        again = as_raw(url, picture, model_id="tiny", prompt=each["prompt"], max_new_tokens=6).json()
        assert (again["answer"], again["vision_cached"]) == (each["answer"], True)
    other = as_raw(url, photo("zidane.jpg"), model_id="tiny", prompt="dog", max_new_tokens=7).json()
    again = as_raw(url, photo("zidane.jpg"), model_id="tiny", prompt="dog", max_new_tokens=7).json()
    assert again["answer"] == other["answer"] and again["vision_cached"] is True
    assert 'engine_vision_cache_total{model="tiny",outcome="hit"}' in httpx.get(server.url + "/metrics").text


def test_a_folder_for_another_task_than_the_operator_says_is_refused(server: RunningServer) -> None:
    reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id="wrong", prompt="a")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "weights_mismatch")
    wait_for_state(server, "wrong", "failed")
    assert server.get("/models/wrong")["error"]["code"] == "weights_mismatch"
    assert "holds a network for caption, but the settings say vqa" in server.log.read_text()


def wait_for_state(server: RunningServer, model: str, state: str) -> None:
    deadline = time.monotonic() + 30
    while server.get(f"/models/{model}")["state"] != state:
        assert time.monotonic() < deadline, server.get(f"/models/{model}")
        time.sleep(0.05)


def test_where_a_download_cannot_work_the_reply_says_what_to_do_and_the_rest_goes_on(tmp_path: Path) -> None:
    environment = {"ULTRALYTICS_CACHE_DIR": str(tmp_path), "HF_HOME": str(tmp_path), "ENGINE_OFFLINE": "true"}
    with running_server(environment=environment) as server:
        for model in ("yolov8n", "yolov8s", "blip-vqa-base"):
            reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id=model)
            assert reply.status_code == 503
            assert reply.json()["error"]["code"] == "weights_unavailable"
            assert f"inference-engine pull {model}" in reply.json()["error"]["message"]
            assert int(reply.headers["retry-after"]) >= 1
            wait_for_state(server, model, "failed")
            assert server.get(f"/models/{model}")["error"]["code"] == "weights_unavailable"
        assert httpx.get(server.url + "/healthz").status_code == 200
        sample = (SAMPLES / "sample.jpg").read_bytes()
        assert as_raw(server.url + "/inference", sample).status_code == 200
