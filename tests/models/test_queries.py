from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.spec import Spec
from server.resize import stretch
from tests.models.networks import Image, PlainRow, save_yolo, shapes
from tests.models.parity import (
    Library,
    assert_neighbours_do_not_matter,
    assert_same,
    boxes,
    loaded,
    predictions,
)

CONFIDENCE = 0.5
SIZE = 160  # its attention takes long


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_yolo(tmp_path_factory.mktemp("queries") / "random.pt", "yolov8n-rtdetr.yaml", SIZE)


def stretched(image: Image, **params: Any) -> PlainRow:
    """As the front fills the slot."""
    pixels = np.empty((SIZE, SIZE, 3), np.uint8)
    stretch(image, pixels)
    given = {"width": image.shape[1], "height": image.shape[0], "confidence": CONFIDENCE, **params}
    return PlainRow(pixels, given)


def test_boxes_are_the_librarys_alone_and_in_company(weights: Path) -> None:
    model, library = loaded(weights), Library(weights)
    for image in shapes().values():
        expected = clipped(library.results(image, SIZE, conf=CONFIDENCE))
        assert len(expected) >= 5  # or the comparison says nothing
        assert_same(predictions(model.infer([stretched(image)]))[0], expected)
        classes = sorted({each["class_id"] for each in expected})[:2]
        some = predictions(model.infer([stretched(image, classes=classes, max_detections=3)]))[0]
        assert_same(some, clipped(library.results(image, SIZE, conf=CONFIDENCE, classes=classes, max_det=3)))

    def assert_alike(together: Any, alone: Any, one: PlainRow) -> None:
        pixels = 5e-5 * max(one.params["width"], one.params["height"])
        assert_same(together["predictions"], alone["predictions"], 1e-3, pixels)

    assert_neighbours_do_not_matter(model, [stretched(image) for image in shapes().values()], assert_alike)
    spec = Spec.from_json(model.spec)
    assert (spec.task, spec.resize) == ("detect", "stretch")


def clipped(result: Any) -> list[dict[str, Any]]:
    """The library leaves boxes of this architecture beyond the edges."""
    height, width = result.orig_shape
    expected = boxes(result.boxes)
    for each in expected:
        box = each["box"]
        limits = {"x1": width, "x2": width, "y1": height, "y2": height}
        each["box"] = {key: min(max(value, 0.0), float(limits[key])) for key, value in box.items()}
    return expected
