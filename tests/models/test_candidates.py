from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.candidates import Layout, kept_boxes
from models.detections import DetectOptions
from tests.models.suppression import (
    NUM_EXTRA,
    ROTATED,
    SEEDS,
    SIDE,
    UPRIGHT,
    Floats,
    is_close_call,
    librarys,
    options,
    random_raw,
)

END2END = Layout(5, end2end=True)


def assert_kept(raw: Floats, layout: Layout, limits: list[DetectOptions]) -> None:
    """That the same boxes stay as in the library, in the same order and to the last bit."""
    untouched = raw.copy()
    for found, expected in zip(kept_boxes(raw, layout, limits), librarys(raw, layout, limits), strict=True):
        assert found.dtype == np.float32
        assert found.tolist() == expected.tolist()
    np.testing.assert_array_equal(raw, untouched)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from([0, 1, 2, 5, 6, 7, 60, 127, 128, 129, 300, 1500]), options())
def test_the_boxes_that_stay_are_the_librarys(seed: int, num_anchors: int, limits: DetectOptions) -> None:
    assert_kept(random_raw(seed, UPRIGHT, num_anchors, NUM_EXTRA[UPRIGHT]), UPRIGHT, [limits])


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(options(), min_size=2, max_size=4))
def test_each_row_has_its_own_limits_and_nothing_of_its_neighbours(
    seed: int, limits: list[DetectOptions]
) -> None:
    assert_kept(random_raw(seed, UPRIGHT, 200, NUM_EXTRA[UPRIGHT], len(limits)), UPRIGHT, limits)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from([0, 1, 2, 6, 7, 60, 127, 129, 300, 900]), options())
def test_the_rotated_boxes_that_stay_are_the_librarys(
    seed: int, num_anchors: int, limits: DetectOptions
) -> None:
    raw = random_raw(seed, ROTATED, num_anchors, NUM_EXTRA[ROTATED])
    assume(not is_close_call(raw, limits.iou))
    assert_kept(raw, ROTATED, [limits])


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([math.nan, math.inf, -math.inf]), st.sampled_from([UPRIGHT, ROTATED]))
def test_anchors_with_a_value_that_is_not_finite_are_as_if_they_were_not_there(
    seed: int, value: float, layout: Layout
) -> None:
    raw = random_raw(seed, layout, 150, NUM_EXTRA[layout])
    random = np.random.default_rng(seed)
    raw[0, random.integers(0, raw.shape[1], 60), random.integers(0, 150, 60)] = value
    limits = DetectOptions(SIDE, SIDE, confidence=0.1, iou=0.62)
    finite = raw[:, :, np.isfinite(raw[0]).all(0)]
    assume(not (layout.rotated and is_close_call(finite, limits.iou)))
    assert_kept(raw, layout, [limits])
    assert kept_boxes(raw, layout, [limits])[0].tolist() == kept_boxes(finite, layout, [limits])[0].tolist()


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([0, 1, 6, 300]), options())
def test_of_an_end_to_end_output_stays_what_the_library_keeps(
    seed: int, num_boxes: int, limits: DetectOptions
) -> None:
    random = np.random.default_rng(seed)
    raw = random.uniform(0, SIDE, (1, num_boxes, 8)).astype(np.float32)
    raw[:, :, 4] = np.sort(random.random((1, num_boxes)))[:, ::-1]
    raw[:, :, 5] = random.integers(0, END2END.num_classes, (1, num_boxes))
    raw[:, 1::7, 2] = math.nan
    assert_kept(raw, END2END, [limits])


@pytest.mark.parametrize("classes", [None, (1, 3)])
def test_more_anchors_than_are_looked_at(classes: tuple[int, ...] | None) -> None:
    raw = random_raw(0, UPRIGHT, 85_000, NUM_EXTRA[UPRIGHT])
    raw[0, :4] = np.random.default_rng(0).uniform(0, 8, raw[0, :4].shape)  # all in one heap: few stay
    raw[0, 0, :30_000:3] = 100_000.0  # and some far away with the least confidence
    raw[0, 4:9, :30_000:3] = np.random.default_rng(1).uniform(0.001, 0.002, (5, 10_000))
    limits = DetectOptions(SIDE, SIDE, confidence=0.0, iou=0.05, max_detections=1000, classes=classes)
    assert_kept(raw, UPRIGHT, [limits])


def test_what_is_finite_and_absurd_raises_no_warning() -> None:
    raw = random_raw(0, UPRIGHT, 300) * np.float32(1e34)
    raw[:, 4:] = random_raw(1, UPRIGHT, 300)[:, 4:]
    limits = DetectOptions(SIDE, SIDE, confidence=0.1)
    assert_kept(raw, UPRIGHT, [limits])
    rotated = random_raw(0, ROTATED, 300, 1) * np.float32(1e34)
    rotated[:, 4:7] = random_raw(1, ROTATED, 300, 1)[:, 4:7]
    assert kept_boxes(rotated, ROTATED, [limits])


WITHOUT_TORCH = """
import sys
import numpy as np
from models.heads import post_processor
from models.traits import Traits
random = np.random.default_rng(0)
def boxes(num_extra):
    places = random.uniform(20, 100, (2, 4, 500))
    return np.concatenate((places, random.random((2, 3 + num_extra, 500))), 1).astype(np.float32)
final = np.concatenate((random.random((2, 300, 5)), random.integers(0, 3, (2, 300, 1))), 2).astype(np.float32)
prototypes = random.normal(size=(2, 8, 32, 32)).astype(np.float32)
raws = {
    ("Detect", "detect", False): boxes(0),
    ("v10Detect", "detect", True): final,
    ("RTDETRDecoder", "detect", True): final,
    ("Segment", "segment", False): (boxes(8), prototypes),
    ("Pose", "pose", False): boxes(6),
    ("OBB", "obb", False): boxes(1),
    ("Classify", "classify", False): random.random((2, 3)).astype(np.float32),
}
for (head, task, end2end), raw in raws.items():
    traits = Traits(head, task, "letterbox", ("a", "b", "c"), 128, 128, end2end, (2, 3))
    reader = post_processor(traits)
    for masks in ("polygon", "rle"):
        options = [reader.read_options({"width": 90, "height": 60, "confidence": 0.5, "masks": masks})] * 2
        answers = reader.fragments(raw, options)
        assert all(b'"confidence"' in answer for answer in answers), (head, answers)
print(len(raws), sorted({"torch", "torchvision", "ultralytics"} & set(sys.modules)))
"""


def test_arrays_of_every_task_are_read_without_torch_and_without_the_library() -> None:
    root = Path(__file__).parents[2]
    done: Any = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1) == ["7", "[]\n"]
