from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
import torch

from models.detections import DetectOptions, Detector
from models.errors import InvalidParameterError

LABELS = tuple(f"class {i}" for i in range(8))
SHAPE = (64, 96)


def raw_outputs(num_rows: int, num_anchors: int, seed: int) -> torch.Tensor:
    """Like a head's: (rows, 4 + classes, anchors), a tenth of the anchors confident, in clusters that overlap."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.rand(num_rows, 2, num_anchors, generator=random).mul(6).round().mul(12)
    jitter = torch.randn(num_rows, 2, num_anchors, generator=random)
    sizes = torch.rand(num_rows, 2, num_anchors, generator=random) * 10 + 15
    scores = torch.rand(num_rows, len(LABELS), num_anchors, generator=random)
    quiet = torch.rand(num_rows, 1, num_anchors, generator=random) > 0.1
    return torch.cat((centres + jitter, sizes, scores * torch.where(quiet, 0.05, 1.0)), 1)


def predictions(fragment: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(fragment)["predictions"]
    return found


def one_row(raw: torch.Tensor, end2end: bool = False, **params: Any) -> list[dict[str, Any]]:
    """What is said of an array, which is what is said of a tensor."""
    options = [DetectOptions(**{"width": SHAPE[1], "height": SHAPE[0], **params})]
    detector = Detector(LABELS, SHAPE, end2end)
    of_array, of_tensor = (detector.fragments(each, options)[0] for each in (raw.numpy(), raw))
    assert of_array == of_tensor
    return predictions(of_array)


def candidates(num_candidates: int, num_anchors: int = 50) -> torch.Tensor:
    """So many anchors far from each other with a confidence of a half; the others have none."""
    raw = torch.zeros(1, 4 + len(LABELS), num_anchors)
    for index in range(num_candidates):
        raw[0, :4, index] = torch.tensor([8 + 14 * (index % 6), 8 + 14 * (index // 6), 8, 8])
        raw[0, 4 + index % len(LABELS), index] = 0.5
    return raw


@pytest.mark.parametrize("seed", range(5))
def test_picking_candidates_first_changes_nothing(seed: int) -> None:
    import torchvision  # noqa: F401  # the library then sorts equals in order, see suppression.py
    from ultralytics.utils import nms, ops

    options = [
        DetectOptions(200, 100, confidence=0.3, iou=0.5),
        DetectOptions(30, 400, confidence=0.01, iou=0.9),
        DetectOptions(96, 64, confidence=0.6, iou=0.2, max_detections=3),
        DetectOptions(96, 64, confidence=0.2, classes=(1, 4)),
    ]
    raw = raw_outputs(len(options), 500, seed)
    fragments = Detector(LABELS, SHAPE, end2end=False).fragments(raw.numpy(), options)
    for index, each in enumerate(options):
        expected = nms.non_max_suppression(
            raw[index : index + 1].clone(),
            each.confidence,
            each.iou,
            classes=None if each.classes is None else list(each.classes),
            max_det=each.max_detections,
        )[0]
        ops.scale_boxes(SHAPE, expected[:, :4], (each.height, each.width))
        found = [
            [*one["box"].values(), one["confidence"], one["class_id"]]
            for one in predictions(fragments[index])
        ]
        assert found
        torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_candidates", [0, 1, 5, 6, 7, 20])
def test_any_number_of_candidates_is_understood(num_candidates: int) -> None:
    # The library takes a tensor whose last dimension is 6 for something else.
    assert len(one_row(candidates(num_candidates), confidence=0.25)) == num_candidates
    assert len(one_row(candidates(num_candidates), confidence=0.0)) == num_candidates


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_not_answered(value: float) -> None:
    for channel in (0, 2, 4):
        raw = candidates(8)
        raw[0, channel, 3] = value
        raw[0, 4:, 3] = torch.where(raw[0, 4:, 3].isfinite(), 0.9, raw[0, 4:, 3])
        found = one_row(raw)
        assert len(found) == 7
        assert all(math.isfinite(number) for one in found for number in one["box"].values())


def test_an_end_to_end_output_is_answered_without_what_is_not_finite() -> None:
    raw = torch.tensor([[[1, 2, 30, 40, 0.9, 3], [math.nan, 2, 30, 40, 0.8, 3], [5, 6, 20, 20, 0.7, 1]]])
    found = one_row(raw, end2end=True)
    assert [(one["label"], one["box"]["x1"]) for one in found] == [("class 3", 1.0), ("class 1", 5.0)]
    assert [one["class_id"] for one in one_row(raw, end2end=True, classes=(1,))] == [1]
    assert one_row(raw * math.nan, end2end=True) == []


def test_absurd_boxes_are_answered_without_a_warning() -> None:
    raw = candidates(8)
    raw[0, :4, 3:6] = 3e38
    found = one_row(raw, width=9600, height=6400)
    assert len(found) >= 5
    assert all(0 <= number <= 9600 for one in found for number in one["box"].values())


def test_boxes_are_clipped_to_the_image() -> None:
    raw = candidates(1)
    raw[0, :4, 0] = torch.tensor([48.0, 32.0, 500.0, 500.0])
    assert one_row(raw, width=192, height=128)[0]["box"] == {"x1": 0.0, "y1": 0.0, "x2": 192.0, "y2": 128.0}


@pytest.mark.parametrize(
    "params",
    [
        {"width": None},
        {"width": 0},
        {"height": "tall"},
        {"confidence": 1.5},
        {"confidence": math.nan},
        {"iou": -0.1},
        {"max_detections": 0},
        {"max_detections": math.inf},
        {"classes": 3},
        {"classes": ["cat"]},
    ],
)
def test_impossible_parameters_are_refused(params: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidParameterError):
        DetectOptions.from_params({"width": 5, "height": 5, **params})


def test_absent_parameters_have_the_librarys_defaults() -> None:
    from ultralytics.utils import DEFAULT_CFG

    options = DetectOptions.from_params({"width": 5, "height": 5})
    assert (options.confidence, options.classes) == (0.25, None)
    assert (options.iou, options.max_detections) == (DEFAULT_CFG.iou, DEFAULT_CFG.max_det)
