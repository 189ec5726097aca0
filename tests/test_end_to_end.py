"""The real server, the shipped model, real pictures: what a user gets in the first minute."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from models.catalogue import CATALOGUE
from models.demo.scenes import draw_scene
from tests.serving import RunningServer, running_server

SAMPLES = Path(__file__).parent.parent / "models" / "demo" / "samples"
WEIGHTS = Path(__file__).parent.parent / "models" / CATALOGUE["shapes-detect"].weights
MODEL = "shapes-detect"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(environment={"ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa"}) as server:
        yield server


def photo(name: str) -> bytes:
    spec = find_spec("ultralytics")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "assets" / name).read_bytes()


def overlap(a: dict[str, float], b: dict[str, float]) -> float:
    """Intersection over union of two boxes."""
    width = min(a["x2"], b["x2"]) - max(a["x1"], b["x1"])
    height = min(a["y2"], b["y2"]) - max(a["y1"], b["y1"])
    inside = max(width, 0) * max(height, 0)
    areas = [(box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (a, b)]
    return inside / max(sum(areas) - inside, 1e-9)


def post(url: str, **content: Any) -> httpx.Response:
    """A POST to this machine. Without proxies and without reading certificates, which takes longer than the rest."""
    return httpx.post(url, timeout=60, trust_env=False, verify=False, **content)


def as_raw(url: str, encoded: bytes, **options: Any) -> httpx.Response:
    params = {"model_id": MODEL, **options}
    return post(url, params=params, content=encoded, headers={"content-type": "image/jpeg"})


def as_json(url: str, encoded: bytes, **options: Any) -> httpx.Response:
    body = {"model_id": MODEL, "image_base64": base64.b64encode(encoded).decode(), "parameters": options}
    return post(url, json=body)


def as_form(url: str, encoded: bytes, **options: Any) -> httpx.Response:
    return post(url, data={"model_id": MODEL, **options}, files={"image": ("a.jpg", encoded)})


FORMS: list[Callable[..., httpx.Response]] = [as_raw, as_json, as_form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [path.stem for path in sorted(SAMPLES.glob("*.json"))])
def test_a_sample_scene_gets_right_labels_in_right_places(
    server: RunningServer, form: Callable[..., httpx.Response], name: str
) -> None:
    truth = json.loads((SAMPLES / f"{name}.json").read_text())
    reply = form(server.url + "/inference", (SAMPLES / truth["image"]).read_bytes())
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert answer["image"] == {"width": truth["width"], "height": truth["height"]}
    found = answer["predictions"]
    places = [dict(zip(("x1", "y1", "x2", "y2"), thing["box"], strict=True)) for thing in truth["objects"]]
    for thing, place in zip(truth["objects"], places, strict=True):
        here = [prediction for prediction in found if overlap(prediction["box"], place) >= 0.8]
        assert here[0]["label"] == thing["shape"], "predictions come with the surest first"
    assert all(max(overlap(prediction["box"], place) for place in places) >= 0.8 for prediction in found)
    if name == "sample":  # the README's
        assert len(found) == len(places)
    assert answer["request_id"] == reply.headers["x-request-id"]
    assert set(answer["timings_ms"]) == {"fetch", "decode", "queue", "infer", "post", "draw", "total"}
    assert "infer;dur=" in reply.headers["server-timing"]


def test_the_shipped_model_answers_questions_about_a_sample(server: RunningServer) -> None:
    truth = json.loads((SAMPLES / "sample.json").read_text())["objects"]
    encoded = (SAMPLES / "sample.jpg").read_bytes()
    questions = [
        "how many shapes are there?",
        *(f"is there a {thing['shape']} in the picture?" for thing in truth),
    ]
    body = {"model_id": "shapes-vqa", "image_base64": base64.b64encode(encoded).decode()}
    alone = [
        post(server.url + "/inference", json={**body, "prompt": question}).json() for question in questions
    ]
    assert [reply["answer"] for reply in alone] == [str(len(truth)), *["yes"] * len(truth)]
    assert [reply["vision_cached"] for reply in alone] == [False] + [True] * (len(questions) - 1)
    together = post(server.url + "/inference", json={**body, "prompts": questions}).json()
    assert together["answers"] == [{"prompt": reply["prompt"], "answer": reply["answer"]} for reply in alone]
    described = post(server.url + "/inference", json=body).json()
    assert described["prompt"] == "what is in the picture?"
    assert any(f"{thing['colour']} {thing['shape']}" in described["answer"] for thing in truth)


def oriented(orientation: int) -> bytes:
    """A sample scene with an EXIF orientation that turns it."""
    image = Image.open(SAMPLES / "sample.jpg")
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def sized(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(SAMPLES / "sample.jpg").resize((width, height)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "bus": lambda: photo("bus.jpg"),
    "zidane": lambda: photo("zidane.jpg"),
    "portrait": lambda: (SAMPLES / "portrait.jpg").read_bytes(),
    "tiny": lambda: sized(24, 18),
    "narrow": lambda: sized(30, 900),
    "wide": lambda: sized(1500, 40),
    "huge": lambda: sized(5600, 4200),
    **{f"orientation {n}": (lambda n=n: oriented(n)) for n in range(1, 9)},  # type: ignore[misc]
}


@pytest.fixture(scope="module")
def library() -> Any:
    """The same weights in the library itself."""
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    from ultralytics import YOLO

    return YOLO(WEIGHTS)


@pytest.mark.parametrize("name", PICTURES)
def test_the_boxes_are_the_librarys(server: RunningServer, library: Any, name: str, tmp_path: Path) -> None:
    encoded = PICTURES[name]()
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded)
    imgsz = server.get(f"/models/{MODEL}")["input"]["width"]
    expected = library.predict(path, rect=False, imgsz=imgsz, conf=0.05, iou=0.6, verbose=False)[0].boxes
    found = as_raw(server.url + "/inference", encoded, confidence=0.05, iou=0.6).json()["predictions"]
    assert_same_boxes(found, expected)


def assert_same_boxes(found: list[dict[str, Any]], expected: Any) -> None:
    """Each box of the library (`Results.boxes`) has its own here: same class, IoU 0.99, confidence within 0.01."""
    unmatched = list(found)
    assert len(found) == len(expected)
    rows = zip(expected.xyxy.tolist(), expected.conf.tolist(), expected.cls.tolist(), strict=True)
    for corners, confidence, class_id in rows:
        box = dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True))
        best = max(unmatched, key=lambda p: (p["class_id"] == class_id) * overlap(p["box"], box))
        unmatched.remove(best)
        assert best["class_id"] == class_id
        assert overlap(best["box"], box) >= 0.99
        assert best["confidence"] == pytest.approx(confidence, abs=0.01)


def test_at_low_confidence_the_photographs_have_boxes_to_compare(server: RunningServer) -> None:
    """Else the parity test above would compare nothing with nothing."""
    for name in ("bus.jpg", "zidane.jpg"):
        reply = as_raw(server.url + "/inference", photo(name), confidence=0.05, iou=0.6)
        assert reply.json()["predictions"], name


def test_options_of_the_request_count(server: RunningServer) -> None:
    encoded = (SAMPLES / "sample.jpg").read_bytes()
    everything = as_raw(server.url + "/inference", encoded).json()["predictions"]
    class_id = everything[0]["class_id"]
    for form in FORMS:
        one = form(server.url + "/inference", encoded, max_detections=1).json()["predictions"]
        assert [p["label"] for p in one] == [everything[0]["label"]]
    kept = as_json(server.url + "/inference", encoded, classes=[class_id]).json()["predictions"]
    assert {p["class_id"] for p in kept} == {class_id}
    assert len(kept) < len(everything)
    sure = as_raw(server.url + "/inference", encoded, confidence=0.999).json()["predictions"]
    assert len(sure) < len(everything)


@pytest.mark.parametrize(
    ("status", "code", "send"),
    [
        (422, "image_undecodable", lambda url: as_raw(url, b"not a picture")),
        (404, "model_not_found", lambda url: as_raw(url, b"x", model_id="../../etc/passwd")),
        (400, "invalid_parameter", lambda url: as_raw(url, photo("bus.jpg"), confidence=2)),
        (400, "invalid_json", lambda url: post(url, content=b"{", headers={"content-type": "application/json"})),
        (
            400,
            "image_url_not_allowed",
            lambda url: post(url, json={"model_id": MODEL, "image_url": "http://127.0.0.1/x.jpg"}),
        ),
    ],
)  # fmt: skip
def test_a_wrong_request_gets_a_clear_error_and_the_next_one_its_answer(
    server: RunningServer, status: int, code: str, send: Callable[[str], httpx.Response]
) -> None:
    reply = send(server.url + "/inference")
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["error"]["request_id"] == reply.headers["x-request-id"]
    assert as_raw(server.url + "/inference", (SAMPLES / "sample.jpg").read_bytes()).status_code == 200


def same(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    """Equal but for what the batch size does to the last digits."""
    return len(a) == len(b) and all(
        x["label"] == y["label"]
        and overlap(x["box"], y["box"]) > 0.99
        and abs(x["confidence"] - y["confidence"]) < 1e-3
        for x, y in zip(a, b, strict=True)
    )


def test_a_killed_worker_costs_none_of_32_clients_its_answer(server: RunningServer) -> None:
    pictures = [draw_scene(9_000_000 + n).jpeg() for n in range(32)]
    calm = [as_raw(server.url + "/inference", picture).json()["predictions"] for picture in pictures]
    assert all(calm), "every picture must have an answer of its own"
    answers: list[list[httpx.Response]] = [[] for _ in pictures]
    stop = threading.Event()

    def client(number: int) -> None:
        with httpx.Client(trust_env=False, verify=False, timeout=60) as session:
            while not stop.is_set():
                answers[number].append(as_raw_in(session, server.url + "/inference", pictures[number]))

    with concurrent.futures.ThreadPoolExecutor(len(pictures)) as executor:
        clients = [executor.submit(client, number) for number in range(len(pictures))]
        try:
            for _ in range(3):
                kill_a_busy_worker(server)
        finally:
            stop.set()
        for each in clients:
            each.result()
    assert all(reply.status_code == 200 for replies in answers for reply in replies)
    for mine, replies in zip(calm, answers, strict=True):
        assert replies
        assert all(same(mine, reply.json()["predictions"]) for reply in replies)
    model = server.get(f"/models/{MODEL}")
    assert sum(replica["deaths"] for replica in model["replicas"]) == 3
    assert model["slots"]["free"] == model["slots"]["total"] > 0
    assert model["queue_length"] == 0


def as_raw_in(session: httpx.Client, url: str, encoded: bytes) -> httpx.Response:
    return session.post(
        url, params={"model_id": MODEL}, content=encoded, headers={"content-type": "image/jpeg"}, timeout=60
    )


def kill_a_busy_worker(server: RunningServer) -> None:
    """SIGKILL to one that has a batch, then wait until the death is seen and all replicas serve again."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        replicas = server.get(f"/models/{MODEL}")["replicas"]
        busy = [replica for replica in replicas if replica["in_flight"]]
        if busy:
            deaths = sum(replica["deaths"] for replica in replicas)
            os.kill(busy[0]["pid"], signal.SIGKILL)
            break
    while time.monotonic() < deadline:
        replicas = server.get(f"/models/{MODEL}")["replicas"]
        is_seen = sum(replica["deaths"] for replica in replicas) == deaths + 1
        if is_seen and all(replica["state"] in ("ready", "busy") for replica in replicas):
            return
        time.sleep(0.02)
    raise AssertionError(f"the worker did not come back: {replicas}")


@pytest.mark.parametrize(
    "options", [["--clients", "4"], ["--rate", "10"], ["--clients", "2", "--form", "json"]]
)
def test_the_load_generator_measures_it(server: RunningServer, options: list[str]) -> None:
    command = [sys.executable, "-m", "bench.load", "--url", server.url, "--seconds", "1", "--warmup", "0.2"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    assert set(result["statuses"]) == {"200"}
    assert result["requests"] == sum(result["statuses"].values()) > 0
    assert 0 < result["latency_seconds"]["p50"] <= result["latency_seconds"]["p99"]
    assert result["machine"]["cores"] >= 1


def test_the_load_generator_does_not_call_a_failed_run_a_measurement(server: RunningServer) -> None:
    command = [sys.executable, "-m", "bench.load", "--url", server.url, "--seconds", "0.5", "--warmup", "0"]
    run = subprocess.run([*command, "--model", "nobody"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert "404" in run.stderr


def test_the_ceiling_is_measured_on_the_same_weights() -> None:
    command = [
        sys.executable,
        "-m",
        "bench.ceiling",
        "--weights",
        str(WEIGHTS),
        "--seconds",
        "0.5",
        "--threads",
        "1",
    ]
    run = subprocess.run([*command, "--batch-sizes", "1"], capture_output=True, text=True, check=True)
    result = json.loads(run.stdout.splitlines()[-1])
    assert result["best"]["per_second"] == max(row["per_second"] for row in result["finals"]) > 0
