"""The shipped weights, loaded the strict way (`tests/models/conftest.py` switches it on before the first import)."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from models.demo.detect_architecture import INPUT_SIZE
from models.demo.make_samples import CHOSEN, SAMPLES, Sample
from models.demo.shapes import SHAPES
from models.demo.train_detect import WEIGHTS

Box = tuple[float, float, float, float]


def overlap(one: Box, two: Box) -> float:
    """Intersection over union."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, two)) - shared)


@pytest.fixture(scope="module")
def model() -> Any:
    pytest.importorskip("ultralytics")
    from ultralytics.models import YOLO
    from ultralytics.utils import SAFE_LOAD

    assert SAFE_LOAD, "the library was imported before its switches were set"
    return YOLO(str(WEIGHTS))


def test_the_weights_are_small_enough_to_ship() -> None:
    assert WEIGHTS.stat().st_size <= 7_000_000


def test_the_weights_load_safely_and_carry_the_class_list_and_input_size(model: Any) -> None:
    assert [model.names[number] for number in range(len(model.names))] == list(SHAPES)
    assert (model.task, model.overrides["imgsz"]) == ("detect", INPUT_SIZE)


@pytest.mark.parametrize("sample", CHOSEN, ids=[sample.name for sample in CHOSEN])
def test_every_object_of_a_sample_is_found_once_and_nothing_else(model: Any, sample: Sample) -> None:
    with Image.open(SAMPLES / f"{sample.name}.jpg") as stored:
        shown = ImageOps.exif_transpose(stored)
    boxes = model.predict(shown, imgsz=INPUT_SIZE, conf=0.4, device="cpu", verbose=False)[0].boxes
    found = [
        (model.names[int(number)], box) for number, box in zip(boxes.cls, boxes.xyxy.tolist(), strict=True)
    ]
    truth = json.loads((SAMPLES / f"{sample.name}.json").read_text())["objects"]
    assert sorted(label for label, _ in found) == sorted(thing["shape"] for thing in truth)
    for thing in truth:
        assert max(overlap(box, thing["box"]) for label, box in found if label == thing["shape"]) >= 0.8, (
            thing
        )


def test_the_card_describes_the_shipped_file() -> None:
    card = WEIGHTS.with_suffix(".md").read_text()
    assert f"{WEIGHTS.stat().st_size:,} bytes" in card
    assert all(f"| {shape} |" in card for shape in SHAPES)


def test_the_weights_name_no_path_of_the_machine_that_made_them() -> None:
    content = Path(WEIGHTS).read_bytes()
    assert b"/tmp" not in content and b"/home" not in content and b"best.pt" not in content
