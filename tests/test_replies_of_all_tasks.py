"""The real networks of every task behind every protocol that knows them: replies are as declared, and say the same. At
the end the server is stopped while it is asked in all of these ways."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving import RunningServer, running_server
from tests.test_description import check, schema_of
from tests.test_pictures_of_all_tasks import scene_of

WEIGHTS = Path(__file__).parent / "weights"
ONE = schema_of("/inference", "post")
TASKS = ("segment", "pose", "obb", "classify")
OPTIONS = [
    ("segment", {}),
    ("segment", {"masks": "rle"}),
    ("pose", {}),
    ("obb", {}),
    ("classify", {"top": 2}),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    tables = {name: {"weights": str(WEIGHTS / f"{name}.pt"), "task": name, "replicas": 1} for name in TASKS}
    environment = {
        "ENGINE_MODELS": json.dumps(tables),
        "ENGINE_LOAD_AT_START": ",".join(TASKS),
        "ENGINE_RUNTIME": "torch",
        "ENGINE_REPLICAS": "1",
    }
    with running_server(environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False, verify=False) as client:
        yield client


def found_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer["top"] if "top" in answer else answer["predictions"]
    return found


def asked(client: httpx.Client, task: str, options: dict[str, Any]) -> tuple[list[Any], list[Any], Any]:
    """The same image twice: what `/inference`, `/inference/batch` and `/v2` say of it."""
    text = base64.b64encode(scene_of(task)).decode()
    body = {"model_id": task, "parameters": options}
    one = client.post("/inference", json={**body, "image_base64": text})
    listed = client.post("/inference/batch", json={**body, "images": [{"image_base64": text}] * 2})
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2], "data": [text] * 2}
    tensors = client.post(f"/v2/models/{task}/infer", json={"inputs": [tensor], "parameters": options})
    for reply in (one, listed, tensors):
        assert reply.status_code == 200, reply.text
    check(ONE, one.json())
    check(schema_of("/inference/batch", "post"), listed.json())
    check(schema_of("/v2/models/{model_id}/infer", "post"), tensors.json())
    return found_in(one.json()), [found_in(each) for each in listed.json()["results"]], tensors.json()


@pytest.mark.parametrize(("task", "options"), OPTIONS)
def test_every_protocol_says_the_same_as_it_is_declared(
    client: httpx.Client, task: str, options: dict[str, Any]
) -> None:
    alone, several, tensors = asked(client, task, options)
    assert len(alone) >= 2
    for found in several:
        assert [each["label"] for each in found] == [each["label"] for each in alone]
        assert [set(each) for each in found] == [set(each) for each in alone]
        assert np.allclose([e["confidence"] for e in found], [e["confidence"] for e in alone], atol=0.01)
    outputs = {each["name"]: each for each in tensors["outputs"]}
    declared = client.get(f"/v2/models/{task}").json()["outputs"]
    assert [(each["name"], each["datatype"]) for each in declared] == [
        (each["name"], each["datatype"]) for each in tensors["outputs"]
    ]
    for each in declared:
        shape, data = outputs[each["name"]]["shape"], outputs[each["name"]]["data"]
        assert len(data) == np.prod(shape)
        assert len(shape) == len(each["shape"])
        assert all(given in (-1, length) for given, length in zip(each["shape"], shape, strict=True))
    assert outputs["labels"]["data"] == [each["label"] for each in alone] * 2
    assert np.allclose(outputs["scores"]["data"], [each["confidence"] for each in alone] * 2, atol=0.01)
    for answer in outputs["json"]["data"]:
        check(ONE, json.loads(answer))


@pytest.mark.parametrize(
    ("task", "name", "of_one"),
    [
        ("pose", "keypoints", lambda e: [[p["x"], p["y"], p.get("confidence", 1.0)] for p in e["keypoints"]]),
        ("obb", "corners", lambda each: each["corners"]),
        ("segment", "boxes", lambda each: [each["box"][side] for side in ("x1", "y1", "x2", "y2")]),
    ],
)
def test_what_a_task_adds_is_in_the_tensors_where_it_belongs(
    client: httpx.Client, task: str, name: str, of_one: Any
) -> None:
    alone, _, tensors = asked(client, task, {})
    output = next(each for each in tensors["outputs"] if each["name"] == name)
    made = np.array(output["data"]).reshape(output["shape"])
    assert np.allclose(made, [of_one(each) for each in alone] * 2, atol=0.5)


@pytest.mark.parametrize(("task", "options"), [each for each in OPTIONS if each[0] != "classify"])
def test_where_nothing_is_found_replies_are_as_declared(
    client: httpx.Client, task: str, options: dict[str, Any]
) -> None:
    alone, several, tensors = asked(client, task, {**options, "confidence": 1.0})
    assert (alone, several) == ([], [[], []])
    for output in tensors["outputs"]:
        if output["name"] not in ("json", "num_detections"):
            assert output["data"] == [] and output["shape"][0] == 0


def test_who_is_asked_when_the_server_stops_answers_in_every_protocol(server: RunningServer) -> None:
    text = base64.b64encode(scene_of("segment")).decode()
    images = [{"image_base64": text}] * 40
    tensor = {"name": "image", "datatype": "BYTES", "shape": [30], "data": [text] * 30}
    bodies: list[tuple[str, dict[str, Any], str]] = [
        ("/inference/batch", {"model_id": "segment", "images": images}, "application/json"),
        ("/v2/models/obb/infer", {"inputs": [tensor]}, "application/json"),
        *[("/inference", {"model_id": "pose", "image_base64": text}, "image/png")] * 8,
    ]

    def ask(path: str, body: dict[str, Any], accept: str) -> httpx.Response:
        return httpx.post(
            server.url + path,
            json=body,
            headers={"accept": accept},
            timeout=60,
            trust_env=False,
            verify=False,
        )

    with ThreadPoolExecutor(len(bodies)) as threads:
        replies = [threads.submit(ask, *each) for each in bodies]
        replies[-1].result()
        server.process.terminate()
        for reply in replies:
            assert reply.result().status_code == 200, reply.result().text[:300]
            if "results" in reply.result().text[:20]:
                assert all("error" not in each for each in reply.result().json()["results"])
