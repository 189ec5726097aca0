from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.spec import Spec
from tests.models.networks import PlainRow, row, shapes
from tests.models.parity import (
    Library,
    assert_neighbours_do_not_matter,
    assert_same,
    boxes,
    loaded,
    predictions,
)

ARCHITECTURES = ("yolov8n-obb.yaml", "yolo26n-obb.yaml")
CONFIDENCE = 0.2


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def near(pixels: float) -> Any:
    """Each corner within `pixels`, the angle within 1e-3."""

    def compare(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
        furthest = np.abs(np.subtract(one["corners"], two["corners"])).max()
        return bool(furthest <= pixels and abs(one["angle"] - two["angle"]) <= 1e-3)

    return compare


def test_corners_and_angles_are_the_librarys_alone_and_in_company(architecture: str, weights: Path) -> None:
    end2end = "yolo26" in architecture
    model, library = loaded(weights, end2end=end2end), Library(weights, end2end)
    for name, image in shapes().items():
        for options, names in (({}, {}), ({"iou": 0.2, "max_detections": 4}, {"iou": 0.2, "max_det": 4})):
            found = library.results(image, conf=CONFIDENCE, **names).obb
            expected = boxes(found)
            for each, corners, angle in zip(
                expected, found.xyxyxyxy.tolist(), found.xywhr[:, 4], strict=True
            ):
                each["corners"], each["angle"] = corners, float(angle)
            assert len(expected) >= 4 or name == "20x31"  # or the comparison says nothing
            answer = predictions(model.infer([row(image, confidence=CONFIDENCE, **options)]))[0]
            assert_same(answer, expected, corner=0.05, besides=near(0.05))
    classes = sorted({each["class_id"] for each in expected})[:2]
    filtered = predictions(model.infer([row(image, confidence=CONFIDENCE, classes=classes)]))[0]
    assert_same(filtered, boxes(library.results(image, conf=CONFIDENCE, classes=classes).obb), corner=0.05)

    def assert_alike(together: Any, alone: Any, one: PlainRow) -> None:
        pixels = max(5e-5 * max(one.params["width"], one.params["height"]), 1e-3)
        assert_same(together["predictions"], alone["predictions"], 1e-3, pixels, near(pixels))

    rows = [row(image, confidence=CONFIDENCE) for image in shapes().values()]
    assert_neighbours_do_not_matter(model, rows, assert_alike)
    spec = Spec.from_json(model.spec)
    assert (spec.task, spec.resize) == ("obb", "letterbox")
