from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.checkpoint import TASKS, read_checkpoint
from models.heads import post_processor
from tests.models.networks import row, save_yolo, shapes
from tests.models.parity import Library, assert_same, loaded, predictions

# One of each family whose layers the other tests do not run: yolov8, yolo11, yolo26 and RT-DETR have tests of their own.
ARCHITECTURES = {
    "yolov5n.yaml": (0.3, False),
    "yolov9t.yaml": (0.3, False),
    "yolov10n.yaml": (0.1, True),
    "yolo12n.yaml": (0.3, False),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_family_answers_like_the_library(tmp_path: Path, architecture: str) -> None:
    confidence, end2end = ARCHITECTURES[architecture]
    weights = save_yolo(tmp_path / "random.pt", architecture)
    assert read_checkpoint(weights, None, end2end=True).end2end == end2end
    image = shapes()["portrait"]
    expected = Library(weights, end2end)(image, conf=confidence)
    assert len(expected) >= 5
    model = loaded(weights, end2end=end2end)
    assert_same(predictions(model.infer([row(image, confidence=confidence)]))[0], expected)


@pytest.mark.parametrize("end2end", [True, False])
def test_of_two_heads_the_one_that_is_asked_for_is_used(tmp_path: Path, end2end: bool) -> None:
    weights = save_yolo(tmp_path / "random.pt", "yolo26n.yaml")
    assert read_checkpoint(weights, None, end2end).end2end == end2end
    image, library = shapes()["portrait"], Library(weights, end2end)
    strict = predictions(loaded(weights, end2end=end2end).infer([row(image, confidence=0.2, iou=0.1)]))[0]
    assert_same(strict, library(image, conf=0.2, iou=0.1))
    # An end-to-end head does not care about overlaps.
    assert (len(strict) == len(library(image, conf=0.2, iou=0.9))) == end2end


def test_every_head_that_is_read_has_something_that_reads_it(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save_yolo(tmp_path / "random.pt"), None)
    for head, task in TASKS.items():
        post_processor(replace(checkpoint, head=head, task=task, keypoint_shape=(17, 3)))
    with pytest.raises(ValueError, match="Unknown"):
        post_processor(replace(checkpoint, head="Unknown", task="vqa"))
