"""Raw outputs to suppress overlaps in, and what the library keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from models.candidates import Layout
from models.detections import DetectOptions

Floats = npt.NDArray[np.float32]
SIDE = 640
UPRIGHT, ROTATED = Layout(5), Layout(3, rotated=True)
NUM_EXTRA = {UPRIGHT: 2, ROTATED: 1}
SEEDS = st.integers(0, 2**32 - 1)


def random_raw(seed: int, layout: Layout, num_anchors: int, num_extra: int = 0, num_rows: int = 1) -> Floats:
    """(rows, 4 + classes + extra, anchors): boxes in crowds, confidences from 0 to 1, many of them equal, an angle last
    where boxes are rotated. With odd seeds places and sizes are whole numbers, so that overlaps are equal too."""
    random = np.random.default_rng(seed)
    shape = (num_rows, 2, num_anchors)
    crowds = random.integers(0, SIDE, (num_rows, 2, 10))
    centres = np.take_along_axis(crowds, random.integers(0, 10, shape), 2) + random.normal(0, 12, shape)
    sizes = random.uniform(1, 120, shape)
    scores = random.uniform(0, 1, (num_rows, layout.num_classes, num_anchors)) ** 3
    is_rough = random.random(scores.shape) < 0.5
    scores = np.where(is_rough, scores.round(2), scores)
    extra = random.normal(size=(num_rows, num_extra, num_anchors))
    if layout.rotated:
        extra[:, -1] = random.uniform(-np.pi / 4, 3 * np.pi / 4, (num_rows, num_anchors))
    elif seed % 2:
        centres, sizes = centres.round(), sizes.round() // 2 * 2
    return np.concatenate((centres, sizes, scores, extra), 1).astype(np.float32)


def librarys(raw: Floats, layout: Layout, options: Sequence[DetectOptions]) -> list[Floats]:
    """What the library keeps of each row by itself, of the anchors that are finite.

    It sorts with an algorithm that leaves open what comes first of equals; here they stay in order, as in the
    compiled operator of torchvision, which it uses once that is imported.
    """
    import torch
    import torchvision  # noqa: F401
    from ultralytics.utils.nms import non_max_suppression

    sort: Any = torch.Tensor.argsort
    found = []
    for row, each in zip(raw, options, strict=True):
        finite = row[np.isfinite(row).all(1)] if layout.end2end else row[:, np.isfinite(row).all(0)]
        if not layout.end2end and finite.shape[1] == 6:  # which the library takes for an end-to-end output
            finite = np.concatenate((finite, np.zeros((len(finite), 1), np.float32)), 1)
        with (
            mock.patch.object(torch.Tensor, "argsort", lambda *one, **more: sort(*one, **more, stable=True)),
            mock.patch.object(torch, "argsort", lambda *one, **more: sort(*one, **more, stable=True)),
        ):
            kept = non_max_suppression(
                torch.from_numpy(finite[None].copy()),
                each.confidence,
                each.iou,
                classes=None if each.classes is None else list(each.classes),
                max_det=each.max_detections,
                nc=layout.num_classes,
                end2end=layout.end2end,
                rotated=layout.rotated,
            )[0]
        found.append(kept.numpy())
    return found


@st.composite
def options(draw: st.DrawFn) -> DetectOptions:
    """Limits of one row, with those at the ends of what is allowed."""
    return DetectOptions(
        width=SIDE,
        height=SIDE,
        confidence=draw(st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 1.0]) | st.floats(0, 1)),
        iou=draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])),
        max_detections=draw(st.sampled_from([1, 2, 300, 1000])),
        classes=draw(st.none() | st.lists(st.integers(0, 9), max_size=4).map(tuple)),
    )


def is_close_call(raw: Floats, iou: float) -> bool:
    """Whether a pair overlaps by so nearly `iou` that the last digit of a logarithm decides."""
    import torch
    from ultralytics.utils.metrics import batch_probiou

    _, channels, _ = raw.shape
    shapes = torch.from_numpy(raw[0][[0, 1, 2, 3, channels - 1]].T.copy())
    distance = (batch_probiou(shapes, shapes) - iou).abs()
    return bool(((distance > 0) & (distance < 2e-6)).any())
