"""The real server draws the answers of real networks, for every task: what JSON says is compared with the pixels."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from models.demo.scenes import TEST_SEEDS, draw_scene
from models.demo.task_dataset import scene_settings
from server.palette import colour_of
from server.run_lengths import runs_of
from tests.serving import RunningServer, running_server

WEIGHTS = Path(__file__).parent / "weights"
SAMPLE = Path(__file__).parent.parent / "models" / "demo" / "samples" / "sample.jpg"
OWN = ("segment", "pose", "obb", "classify")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    tables = {name: {"weights": str(WEIGHTS / f"{name}.pt"), "task": name, "replicas": 1} for name in OWN}
    environment = {
        "ENGINE_MODELS": json.dumps(tables),
        "ENGINE_LOAD_AT_START": ",".join((*OWN, "shapes-detect", "shapes-vqa")),
        "ENGINE_RUNTIME": "torch",
        "ENGINE_REPLICAS": "1",
        "ENGINE_MAX_LOADED_MODELS": "6",
    }
    with running_server(environment=environment) as server:
        yield server


def scene_of(task: str) -> bytes:
    if task not in OWN:
        return SAMPLE.read_bytes()
    scenes = (draw_scene(TEST_SEEDS + index, scene_settings(task)) for index in range(20))
    scene = next(scene for scene in scenes if len(scene.objects) >= (1 if task == "classify" else 2))
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(scene.image)).save(buffer, "PNG")
    return buffer.getvalue()


def ask(server: RunningServer, model_id: str, encoded: bytes, accept: str, **options: Any) -> httpx.Response:
    headers = {"content-type": "image/jpeg", "accept": accept}
    return httpx.post(
        server.url + "/inference", params={"model_id": model_id, **options}, content=encoded, headers=headers,
        timeout=60, trust_env=False, verify=False,
    )  # fmt: skip


def both(server: RunningServer, model_id: str, **options: Any) -> tuple[Any, Any, Any]:
    """The answer as JSON, the picture with it, and the original."""
    encoded = scene_of(model_id)
    said = ask(server, model_id, encoded, "application/json", **options)
    drawn = ask(server, model_id, encoded, "image/png", **options)
    assert said.status_code == drawn.status_code == 200, (said.text, drawn.text[:200])
    original = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    return said.json(), np.asarray(Image.open(io.BytesIO(drawn.content))), original


def shares_colour(pixels: Any, x: float, y: float, class_id: int, reach: int = 3) -> bool:
    """Whether the class's colour is near this place."""
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    return bool(
        (pixels[top : int(y) + reach + 1, left : int(x) + reach + 1] == colour_of(class_id)).all(-1).any()
    )


def test_boxes_are_drawn_around_what_was_found(server: RunningServer) -> None:
    said, pixels, original = both(server, "shapes-detect")
    assert len(said["predictions"]) >= 3 and pixels.shape == original.shape
    for each in said["predictions"]:
        box = each["box"]
        for x, y in (
            (box["x1"], box["y2"]),
            (box["x2"], box["y2"]),
            (box["x2"], (box["y1"] + box["y2"]) / 2),
        ):
            assert shares_colour(pixels, x, y, each["class_id"])
    assert (pixels == original).all(-1).mean() > 0.9


@pytest.mark.parametrize("masks", ["polygon", "rle"])
def test_masks_are_drawn_over_what_was_found(server: RunningServer, masks: str) -> None:
    said, pixels, original = both(server, "segment", masks=masks)
    inside = [mask_of(each, original.shape[:2]) for each in said["predictions"]]
    assert inside
    together = np.sum(inside, axis=0)
    for each, mask in zip(said["predictions"], inside, strict=True):
        alone = mask & (together == 1)
        expected = original[alone] // 2 + np.array(colour_of(each["class_id"]), np.uint8) // 2
        assert (pixels[alone] == expected).all(-1).mean() > 0.3, "the rest are lines and labels"
    far = together == 0
    assert (pixels[far] == original[far]).all(-1).mean() > 0.85


def mask_of(each: Any, shape: tuple[int, int]) -> Any:
    """Which pixels the answer says, booleans of `shape`."""
    height, width = shape
    if "polygon" in each:
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([tuple(point) for point in each["polygon"]], fill=1)
        return np.asarray(image)
    flat = np.zeros(height * width, bool)
    for start, end in zip(*runs_of(each["mask"]["counts"], flat.size), strict=True):
        flat[start:end] = True
    return flat.reshape(width, height).T


def test_keypoints_are_drawn(server: RunningServer) -> None:
    said, pixels, _ = both(server, "pose")
    points = [point for each in said["predictions"] for point in each["keypoints"]]
    believed = [point for point in points if point.get("confidence", 1) >= 0.25]
    dark = [
        pixels[min(int(p["y"]), len(pixels) - 1), min(int(p["x"]), pixels.shape[1] - 1)].max() == 0
        for p in believed
    ]
    assert len(believed) >= 3 and sum(dark) >= 0.8 * len(dark), "labels and other points may cover some"


def test_turned_boxes_are_drawn(server: RunningServer) -> None:
    said, pixels, _ = both(server, "obb")
    assert said["predictions"]
    for each in said["predictions"]:
        near = [shares_colour(pixels, x, y, each["class_id"], 5) for x, y in each["corners"]]
        assert sum(near) >= 3, "a label may cover one"


@pytest.mark.parametrize(
    ("model_id", "options"),
    [
        ("classify", {}), ("shapes-vqa", {"prompt": "how many shapes are there?"}),
        ("shapes-vqa", {"prompts": ["how many shapes are there?", "is there a star in the picture?"]}),
    ],
)  # fmt: skip
def test_words_stand_below_the_untouched_original(
    server: RunningServer, model_id: str, options: dict[str, Any]
) -> None:
    _, pixels, original = both(server, model_id, **options)
    height, width = original.shape[:2]
    assert (pixels[:height, :width] == original).all()
    assert len(pixels) > height and pixels[height:].max() > 200


def test_the_largest_photograph_is_drawn_in_time_in_both_kinds(server: RunningServer) -> None:
    buffer = io.BytesIO()
    Image.open(SAMPLE).resize((6000, 4000), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    for kind in ("jpeg", "png"):
        started = time.monotonic()
        reply = ask(server, "shapes-detect", buffer.getvalue(), f"image/{kind}")
        assert reply.status_code == 200 and time.monotonic() - started < 20
        assert Image.open(io.BytesIO(reply.content)).size == (6000, 4000)
