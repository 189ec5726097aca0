from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest

from models.errors import InvalidParameterError
from models.masks import Segmenter, SegmentOptions
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
from tests.models.test_runs import Mask, read_text

CONFIDENCES = {"yolo11n-seg.yaml": 0.7, "yolo26n-seg.yaml": 0.3}
IOU_OF_SAME = 0.99
MOST = 40  # a random network finds hundreds, and each of them takes its time


@pytest.fixture(scope="module", params=CONFIDENCES)
def architecture(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def filled(polygon: Any, shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.asarray(polygon, np.float32).round().astype(np.int32)], [1])
    return mask


def overlap(one: Mask, two: Mask) -> float:
    union = float((one | two).sum())
    return float((one & two).sum()) / union if union else 1.0


def same_outline(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """The same points, or at least 0.99 of what both enclose in common."""
    polygons = [np.asarray(each["polygon"], np.float64) for each in (one, two)]
    if polygons[0].shape == polygons[1].shape and np.abs(polygons[0] - polygons[1]).max() <= 0.02:
        return True
    shape = tuple(int(side) + 2 for side in np.concatenate(polygons).max(0)[::-1])
    return overlap(filled(polygons[0], shape), filled(polygons[1], shape)) >= IOU_OF_SAME


def bits(one: Mapping[str, Any]) -> Mask:
    return read_text(one["mask"]["counts"], tuple(one["mask"]["size"]))


def same_mask(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return overlap(bits(one), bits(two)) >= IOU_OF_SAME


def test_masks_are_the_librarys_alone_and_in_company(architecture: str, weights: Path) -> None:
    end2end, confidence = "yolo26" in architecture, CONFIDENCES[architecture]
    model, library = loaded(weights, end2end=end2end), Library(weights, end2end)
    for name, image in shapes().items():
        outlines = library.results(image, conf=confidence, max_det=MOST)
        expected = boxes(outlines.boxes)
        assert len(expected) >= 5 or name == "20x31"  # or the comparison says nothing
        for each, polygon in zip(expected, outlines.masks.xy if expected else (), strict=True):
            each["polygon"] = polygon
        limits = {"confidence": confidence, "max_detections": MOST}
        rows = [row(image, **limits), row(image, **limits, masks="rle")]
        as_polygons, as_runs = predictions(model.infer(rows))
        assert_same(as_polygons, expected, besides=same_outline)

        native = library.results(image, conf=confidence, max_det=MOST, retina_masks=True)
        expected = boxes(native.boxes)
        for each, mask in zip(expected, native.masks.data.numpy() if expected else (), strict=True):
            each["bits"] = mask
        assert_same(
            as_runs, expected, besides=lambda one, two: overlap(bits(one), two["bits"]) >= IOU_OF_SAME
        )
        assert {tuple(each["mask"]["size"]) for each in as_runs} <= {image.shape[:2]}

    def assert_alike(together: Any, alone: Any, one: PlainRow) -> None:
        pixels = 5e-5 * max(one.params["width"], one.params["height"])
        alike = same_mask if one.params["masks"] == "rle" else same_outline
        assert_same(together["predictions"], alone["predictions"], 1e-3, pixels, alike)

    kinds = ("polygon", "rle", "polygon", "rle")
    pairs = zip(shapes().values(), kinds, strict=True)
    rows = [row(image, confidence=confidence, max_detections=MOST, masks=kind) for image, kind in pairs]
    assert_neighbours_do_not_matter(model, rows, assert_alike)
    spec = Spec.from_json(model.spec)
    assert (spec.task, spec.resize) == ("segment", "letterbox")


def test_the_form_of_masks_is_checked() -> None:
    given = {"width": 5, "height": 5}
    assert SegmentOptions.from_params(given).masks == "polygon"
    assert SegmentOptions.from_params({**given, "masks": "rle", "iou": 0.2}).iou == 0.2
    for masks in ("picture", None, 1, ["rle"]):
        with pytest.raises(InvalidParameterError, match="masks"):
            SegmentOptions.from_params({**given, "masks": masks})


@pytest.mark.parametrize("masks", ["polygon", "rle"])
def test_prototypes_that_are_not_finite_are_answered_without_a_warning(masks: str) -> None:
    boxes = np.array([[[8, 8, 50, 50, 0.9, 0, 1, 1], [9, 9, 60, 60, 0.8, 0, 3e38, 3e38]]], np.float32)
    prototypes = np.full((1, 2, 16, 16), 2.0, np.float32)
    prototypes[0, 0, 4:9] = np.nan
    prototypes[0, 1, 9:] = np.inf
    options = SegmentOptions(64, 64, masks=masks)
    fragment = Segmenter(("thing",), (64, 64), end2end=True).fragments((boxes, prototypes), [options])[0]
    assert len(orjson.loads(fragment)["predictions"]) <= 2


MEASURED = """
import resource, sys, time
import cv2
import numpy as np
from models.masks import SegmentOptions, Segmenter
random = np.random.default_rng(0)
num_masks, side, kind = 300, 640, sys.argv[1]
boxes = random.random((1, num_masks, 38), np.float32)
boxes[0, :, :2] *= side * 0.6  # corners, each box a sixth of the input's height or more
boxes[0, :, 2:4] = boxes[0, :, :2] + boxes[0, :, 2:4] * side * 0.3 + side * 0.15
boxes[0, :, 4], boxes[0, :, 5] = np.linspace(0.9, 0.3, num_masks), 0
boxes[0, :, 6:] -= 0.5
coarse = random.normal(size=(32, 12, 12)).astype(np.float32)
large = (side // 4, side // 4)
prototypes = np.stack([cv2.resize(each, large, interpolation=cv2.INTER_CUBIC) for each in coarse])[None]
segmenter = Segmenter(("thing",), (side, side), end2end=True)
options = SegmentOptions(6000, 4000, masks=kind)
segmenter.fragments((boxes[:, :2], prototypes), [options])  # imports, caches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.process_time()
fragment = segmenter.fragments((boxes, prototypes), [options])[0]
seconds = time.process_time() - started
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(fragment.count(b'"label"'), grown, seconds, len(fragment))
"""


@pytest.mark.parametrize("kind", ["polygon", "rle"])
def test_300_masks_of_24_megapixels_take_little_memory_and_time(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, kind], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    num_found, grown, seconds, num_bytes = map(float, done.stdout.split())
    assert num_found >= 290
    assert grown < 500e6
    assert seconds < 20  # measured: a fraction of it; of CPU, so that a busy machine does not fail the test
    assert num_bytes < 16 * 1024 * 1024  # what one answer may have
