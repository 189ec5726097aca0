from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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

ARCHITECTURES = ("yolov8n-pose.yaml", "yolo26n-pose.yaml")
CONFIDENCE = 0.2


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def near(pixels: float) -> Any:
    """Each keypoint within `pixels`, its confidence within 1e-3."""

    def compare(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
        return len(one["keypoints"]) == len(two["keypoints"]) > 0 and all(
            abs(a["x"] - b["x"]) <= pixels
            and abs(a["y"] - b["y"]) <= pixels
            and abs(a["confidence"] - b["confidence"]) <= 1e-3
            for a, b in zip(one["keypoints"], two["keypoints"], strict=True)
        )

    return compare


def test_keypoints_are_the_librarys_alone_and_in_company(architecture: str, weights: Path) -> None:
    end2end = "yolo26" in architecture
    model, library = loaded(weights, end2end=end2end), Library(weights, end2end)
    for name, image in shapes().items():
        result = library.results(image, conf=CONFIDENCE)
        expected = boxes(result.boxes)
        for each, points in zip(expected, result.keypoints.data.tolist(), strict=True):
            each["keypoints"] = [dict(zip(("x", "y", "confidence"), point, strict=True)) for point in points]
        found = predictions(model.infer([row(image, confidence=CONFIDENCE)]))[0]
        assert len(expected) >= 5 or name == "20x31"  # or the comparison says nothing
        assert_same(found, expected, besides=near(0.05))
        for point in (point for each in found for point in each["keypoints"]):
            assert 0 <= point["x"] <= image.shape[1] and 0 <= point["y"] <= image.shape[0]

    def assert_alike(together: Any, alone: Any, one: PlainRow) -> None:
        pixels = 2e-5 * max(one.params["width"], one.params["height"])
        assert_same(together["predictions"], alone["predictions"], 1e-3, pixels, near(max(pixels, 1e-3)))

    rows = [row(image, confidence=CONFIDENCE) for image in shapes().values()]
    assert_neighbours_do_not_matter(model, rows, assert_alike)
    spec = Spec.from_json(model.spec)
    assert (spec.task, spec.resize) == ("pose", "letterbox")


def test_keypoints_without_confidence_have_none(tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import PoseModel

    network = PoseModel("yolo11n-pose.yaml", nc=2, data_kpt_shape=(4, 2), verbose=False)
    torch.save({"model": network, "train_args": {"imgsz": 64}}, tmp_path / "flat.pt")
    found = predictions(
        loaded(tmp_path / "flat.pt", max_batch_size=1).infer(
            [row(shapes()["20x31"], 64, 64, confidence=0.0, max_detections=3)]
        )
    )[0]
    assert [[set(point) for point in each["keypoints"]] for each in found] == [[{"x", "y"}] * 4] * 3
