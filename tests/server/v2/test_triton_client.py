"""Triton's own client, unchanged, against a real server: what it gets is what `POST /inference` says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from bench.serving import RunningServer
from server.decode import ImageLimits, decode
from tests.hostile.target import SAMPLE
from tests.server.images import encode, noise
from tests.server.keys import ADMIN, CLIENT, write_keys
from tests.serving import running_server

triton = pytest.importorskip("tritonclient.http", reason="Triton's client is not installed")

ENCODED = SAMPLE.read_bytes()
PIXELS = decode(ENCODED, ImageLimits())
KEY = {"Authorization": f"Bearer {CLIENT}"}
ADMIN_KEY = {"X-API-Key": ADMIN}
"""A copy for each call: the client notes lengths in the dictionary that it is given."""
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    environment = {
        "ENGINE_KEYS_FILE": str(write_keys(tmp_path_factory.mktemp("keys"))),
        "ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa",
    }
    with running_server(environment=environment) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    with triton.InferenceServerClient(
        server.url.removeprefix("http://"), connection_timeout=60, network_timeout=60
    ) as client:
        yield client


def texts(name: str, *values: bytes | str) -> Any:
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(np.array(values, dtype=object))
    return tensor


def pixels(picture: Any, *, binary_data: bool = True) -> Any:
    tensor = triton.InferInput("pixels", picture.shape, "UINT8")
    tensor.set_data_from_numpy(picture, binary_data=binary_data)
    return tensor


def ours(server: RunningServer, image: bytes, **options: Any) -> dict[str, Any]:
    headers = {**KEY, "content-type": "image/jpeg"}
    params = {"model_id": "shapes-detect", **options}
    reply = httpx.post(
        f"{server.url}/inference", params=params, content=image, headers=headers, timeout=60, trust_env=False
    )
    answer: dict[str, Any] = reply.raise_for_status().json()
    return answer


def assert_says(result: Any, predictions: list[dict[str, Any]]) -> None:
    boxes = [[found["box"][side] for side in ("x1", "y1", "x2", "y2")] for found in predictions]
    assert predictions
    assert np.array_equal(result.as_numpy("boxes"), np.array(boxes, np.float32))
    assert np.array_equal(
        result.as_numpy("scores"), np.array([found["confidence"] for found in predictions], np.float32)
    )
    assert result.as_numpy("class_ids").tolist() == [found["class_id"] for found in predictions]
    labels = [label.decode() if isinstance(label, bytes) else label for label in result.as_numpy("labels")]
    assert labels == [found["label"] for found in predictions]


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert not client.is_model_ready("shapes-detect"), "that needs a key"
    assert client.is_model_ready("shapes-detect", headers=dict(KEY)) and client.is_model_ready(
        "shapes-detect", "1", headers=dict(KEY)
    )
    assert not client.is_model_ready("yolov8n", headers=dict(KEY)) and not client.is_model_ready(
        "nope", headers=dict(KEY)
    )
    assert "binary_tensor_data" in client.get_server_metadata(headers=dict(KEY))["extensions"]
    described = client.get_model_metadata("shapes-vqa", "1", headers=dict(KEY))
    assert described["platform"] == "blip_vqa" and described["versions"] == ["1"]
    assert [tensor["name"] for tensor in described["inputs"]] == ["image", "pixels", "prompt"]
    index = {entry["name"]: entry["state"] for entry in client.get_model_repository_index(headers=dict(KEY))}
    assert index["shapes-detect"] == "READY" and index["yolov8n"] == "UNAVAILABLE"


def test_an_image_as_bytes_in_binary_and_in_json(client: Any, server: RunningServer) -> None:
    predictions = ours(server, ENCODED)["predictions"]
    result = client.infer("shapes-detect", [texts("image", ENCODED)], request_id="7", headers=dict(KEY))
    assert_says(result, predictions)
    assert result.get_response()["id"] == "7"
    assert orjson.loads(result.as_numpy("json")[0])["predictions"] == predictions
    names = ("boxes", "scores", "class_ids", "labels")
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in names]
    result = client.infer("shapes-detect", [texts("image", ENCODED)], "1", outputs=wanted, headers=dict(KEY))
    assert_says(result, predictions)
    assert [output["name"] for output in result.get_response()["outputs"]] == list(names)
    assert result.as_numpy("json") is None


def test_pixels_in_binary_and_in_json(client: Any, server: RunningServer) -> None:
    predictions = ours(server, ENCODED, confidence=0.94)["predictions"]
    for picture in (PIXELS, PIXELS[np.newaxis]):
        result = client.infer(
            "shapes-detect", [pixels(picture)], parameters={"confidence": 0.94}, headers=dict(KEY)
        )
        assert_says(result, predictions)
    assert_says(
        client.infer("shapes-detect", [pixels(PIXELS, binary_data=False)], headers=dict(KEY)),
        ours(server, ENCODED)["predictions"],
    )


def test_several_images_and_the_number_of_detections_of_each(client: Any, server: RunningServer) -> None:
    empty, mirrored = encode(noise(64, 64)), encode(PIXELS[:, ::-1], "PNG")
    each = [ours(server, image)["predictions"] for image in (ENCODED, empty, mirrored)]
    result = client.infer("shapes-detect", [texts("image", ENCODED, empty, mirrored)], headers=dict(KEY))
    assert result.as_numpy("num_detections").tolist() == [len(found) for found in each]
    assert_says(result, [found for predictions in each for found in predictions])
    batch = np.stack([PIXELS, PIXELS[:, ::-1]])
    assert_says(client.infer("shapes-detect", [pixels(batch)], headers=dict(KEY)), each[0] + each[2])


def test_questions_about_images(client: Any, server: RunningServer) -> None:
    questions = ["how many shapes are there?", "what color is the circle?"]
    expected = ours(server, ENCODED, model_id="shapes-vqa", prompts=questions)["answers"]
    assert [answer["prompt"] for answer in expected] == questions
    result = client.infer(
        "shapes-vqa", [texts("image", ENCODED, ENCODED), texts("prompt", *questions)], headers=dict(KEY)
    )
    answers = result.as_numpy("answer")
    assert answers.shape == (2, 2)
    assert [[text.decode() for text in row] for row in answers] == [
        [answer["answer"] for answer in expected]
    ] * 2
    result = client.infer("shapes-vqa", [pixels(PIXELS), texts("prompt", questions[1])], headers=dict(KEY))
    assert result.as_numpy("answer").tolist() == [[expected[1]["answer"].encode()]]


def test_errors_are_the_clients_exceptions_with_our_message(client: Any) -> None:
    def refused(*arguments: Any, headers: dict[str, str] = KEY, **options: Any) -> tuple[str, str]:
        with pytest.raises(triton.InferenceServerException) as failed:
            client.infer(*arguments, headers=dict(headers), **options)
        return failed.value.status(), failed.value.message()

    image = texts("image", ENCODED)
    assert refused("shapes-detect", [image], headers={})[0] == "401"
    assert refused("nope", [image]) == (
        "404",
        "model_not_found: There is no such model; GET /models lists what there is.",
    )
    status, message = refused("shapes-detect", [image, texts("prompt", "why?")])
    assert (status, message.partition(":")[0]) == ("400", "invalid_parameter")
    status, message = refused("shapes-detect", [image], outputs=[triton.InferRequestedOutput("mask")])
    assert (status, "mask is no output of this model" in message) == ("400", True)
    assert refused("shapes-detect", [texts("image", ENCODED, b"junk")]) == (
        "422",
        "image_undecodable: Image 1: The image is damaged or not an image.",
    )
    for algorithm in ("gzip", "deflate"):
        assert refused("shapes-detect", [image], request_compression_algorithm=algorithm)[0] == "415"
    assert "confidence" in refused("shapes-detect", [image], parameters={"confidence": 7})[1]
    for ask in (
        client.get_system_shared_memory_status,
        client.get_trace_settings,
        lambda **options: client.get_inference_statistics("shapes-detect", **options),
    ):
        with pytest.raises(triton.InferenceServerException, match="not_found"):
            ask(headers=dict(KEY))


def test_the_repository_is_for_operators(client: Any) -> None:
    with pytest.raises(triton.InferenceServerException, match="admin_key_required"):
        client.unload_model("shapes-detect", headers=dict(KEY))
    client.unload_model("shapes-detect", headers=dict(ADMIN_KEY))
    assert not client.is_model_ready("shapes-detect", headers=dict(KEY))
    client.load_model("shapes-detect", headers=dict(ADMIN_KEY))
    assert client.is_model_ready("shapes-detect", headers=dict(KEY))


def test_the_readmes_example_runs(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(
        r"```python\n((?:(?!```).)*?import tritonclient.*?)```",
        README.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    example = example.replace("localhost:5000", server.url.removeprefix("http://")).replace("KEY", CLIENT)
    monkeypatch.chdir(SAMPLE.parent)
    exec(compile(example.replace("photo.jpg", SAMPLE.name), "README.md", "exec"), {})
    assert "star" in capsys.readouterr().out
