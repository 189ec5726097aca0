from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models import candidates, tensors
from models.candidates import Layout, kept_boxes
from models.detections import DetectOptions
from models.tensors import first_not_overlapped
from tests.models.suppression import (
    NUM_EXTRA,
    ROTATED,
    SEEDS,
    SIDE,
    UPRIGHT,
    Floats,
    is_close_call,
    options,
    random_raw,
)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(options(), min_size=1, max_size=4), st.sampled_from([UPRIGHT, ROTATED]))
def test_tensors_and_arrays_keep_the_same_boxes(
    seed: int, limits: list[DetectOptions], layout: Layout
) -> None:
    raw = random_raw(seed // 2 * 2, layout, 400, NUM_EXTRA[layout], len(limits))
    raw[0, 0, ::9] = math.nan
    assume(
        not (
            layout.rotated
            and any(is_close_call(raw[None, index], limits[index].iou) for index in range(len(raw)))
        )
    )
    assert_alike(raw, layout, limits)


@pytest.mark.parametrize("together", [0, 10**6])
def test_tensors_are_taken_row_by_row_or_together(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_TOGETHER", together)
    raw = random_raw(2, UPRIGHT, 600, NUM_EXTRA[UPRIGHT], 3)
    assert_alike(raw, UPRIGHT, [DetectOptions(SIDE, SIDE, confidence=0.2, iou=0.5)] * 3)


@pytest.mark.parametrize("most", [50, 400])
def test_tensors_and_arrays_look_at_as_many_candidates(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (candidates, tensors):
        monkeypatch.setattr(module, "MAX_CANDIDATES", most)
    raw = random_raw(4, UPRIGHT, 700, 0, 2)
    limits = DetectOptions(SIDE, SIDE, confidence=0.1, iou=0.9, max_detections=1000)
    assert_alike(raw, UPRIGHT, [limits, limits])
    assert len(kept_boxes(raw, UPRIGHT, [limits, limits])[0]) <= most


def test_tensors_are_looked_at_in_numpy_where_there_is_no_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "can_suppress", lambda: False)
    monkeypatch.setattr(tensors, "kept_boxes", None)
    assert_alike(random_raw(6, UPRIGHT, 300), UPRIGHT, [DetectOptions(SIDE, SIDE)])


def assert_alike(raw: Floats, layout: Layout, limits: list[DetectOptions]) -> None:
    ones = kept_boxes(raw, layout, limits)
    others = kept_boxes(torch.from_numpy(raw), layout, limits)
    for one, other in zip(ones, others, strict=True):
        assert other.dtype == np.float32
        assert one.tolist() == other.tolist()


def test_the_compiled_operator_keeps_what_the_librarys_loop_keeps() -> None:
    from ultralytics.utils import nms

    assert tensors.can_suppress()
    random = torch.Generator().manual_seed(1)
    for num_boxes in (1, 2, 50, 400):
        corners = torch.rand(num_boxes, 2, generator=random) * 100
        boxes = torch.cat((corners, corners + torch.rand(num_boxes, 2, generator=random) * 40), 1)
        scores = torch.rand(num_boxes, generator=random)
        for iou in (0.0, 0.3, 0.7, 1.0):
            kept = torch.ops.torchvision.nms(boxes, scores, iou)
            assert torch.equal(kept, nms.TorchNMS.nms(boxes, scores, iou))


def random_shapes(count: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(count)
    places = torch.rand(count, 2, generator=random) * 400
    sizes = torch.rand(count, 2, generator=random) * 60 + 5
    return torch.cat((places, sizes, torch.rand(count, 1, generator=random) * math.pi), 1)


@pytest.mark.parametrize("count", [0, 1, 1000, 1001, 1200])
def test_blocks_keep_what_the_librarys_whole_matrix_keeps(count: int) -> None:
    from ultralytics.utils import metrics, nms

    boxes, scores = random_shapes(count), torch.arange(count, 0, -1).float()
    for iou in (0.0, 0.3, 0.7):
        expected = nms.TorchNMS.fast_nms(boxes, scores, iou, iou_func=metrics.batch_probiou)
        assert torch.equal(first_not_overlapped(boxes, iou, 10_000).nonzero().squeeze(1), expected)
        assert torch.equal(first_not_overlapped(boxes, iou, 7).nonzero().squeeze(1)[:7], expected[:7])
