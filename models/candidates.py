"""Which boxes of a head's raw output stay: above the row's threshold, of its classes, not overlapped by better ones.

Here is the one seam between devices: NumPy arrays are looked at here, tensors on a GPU there (see tensors.py), and
whatever comes behind is NumPy. Runs in a worker; torch is imported only where the output is a tensor.

The order of things is that of the library's `non_max_suppression`. As there, no more boxes are made of anchors than
are asked for: anchors are sorted by their best score and taken a block at a time until enough have stayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.overlaps import Floats, Places, RotatedSuppression, Suppression, UprightSuppression
from models.runtimes.runtime import Array

NUM_BOX_COLUMNS = 6
"""Columns of a found box: four of its place, confidence, class. What a task adds stands behind them."""
MAX_CANDIDATES = 30_000  # the library's, as is the next: those beyond are not looked at
CLASS_OFFSET = 7680  # pixels by which classes are moved apart, so that only boxes of one class overlap
BLOCK = 128


class Limits(Protocol):
    """What of a row's parameters says which boxes stay; see `DetectOptions`."""

    @property
    def confidence(self) -> float: ...

    @property
    def iou(self) -> float: ...

    @property
    def max_detections(self) -> int: ...

    @property
    def classes(self) -> tuple[int, ...] | None: ...


@dataclass(frozen=True, slots=True)
class Layout:
    """How boxes lie in a raw output.

    Anchors: (rows, 4 + classes + extra, anchors) with centre and size, and the angle last where boxes are `rotated`.
    End to end: (rows, boxes, 6 + extra) with final places, confidence and class. In pixels of the network's input.
    """

    num_classes: int
    end2end: bool = False
    rotated: bool = False


def kept_boxes(raw: Array, layout: Layout, limits: Sequence[Limits]) -> list[Floats]:
    """For each row the boxes that stay, best first: (boxes, 6 + extra), float32, the caller's own.

    Places are corners, but centre and size where boxes are rotated, and as they were given from an end-to-end head; in
    pixels of the network's input. Anchors with a value that is not finite are left out.
    """
    if layout.end2end:
        return [_final_boxes(row, each) for row, each in zip(on_host(raw), limits, strict=True)]
    if not isinstance(raw, np.ndarray):
        from models import tensors

        if tensors.can_suppress():
            return tensors.kept_boxes(raw, layout, limits)
    with np.errstate(all="ignore"):  # what a broken network says is finite may be huge
        return [_kept_boxes(row, layout, each) for row, each in zip(on_host(raw), limits, strict=True)]


def on_host(array: Array) -> Floats:
    """`array` as NumPy's; a tensor on a device is waited for and copied."""
    if isinstance(array, np.ndarray):
        return array
    tensor: Any = array
    found: Floats = tensor.float().cpu().numpy()
    return found


def _final_boxes(row: Floats, limits: Limits) -> Floats:
    is_wanted = np.isfinite(row).all(1) & (row[:, 4] > limits.confidence)
    if limits.classes is not None:
        is_wanted &= np.isin(row[:, 5], limits.classes)
    return row[is_wanted][: limits.max_detections]


def _kept_boxes(row: Floats, layout: Layout, limits: Limits) -> Floats:
    """`row` is (4 + classes + extra, anchors)."""
    suppression: Suppression = (RotatedSuppression if layout.rotated else UprightSuppression)(limits.iou)
    kept = [np.empty((0, NUM_BOX_COLUMNS + len(row) - 4 - layout.num_classes), np.float32)]
    num_seen = num_kept = 0
    anchors = _best_first(row[4 : 4 + layout.num_classes], limits.confidence)
    for start in range(0, len(anchors), BLOCK):
        if num_kept >= limits.max_detections or num_seen >= MAX_CANDIDATES:
            break
        found = _found(row[:, anchors[start : start + BLOCK]], layout, limits.classes)
        found = found[: MAX_CANDIDATES - num_seen]
        stay = found[suppression.keep(_apart(found, layout.rotated))]
        kept.append(stay)
        num_seen += len(found)
        num_kept += len(stay)
    return np.concatenate(kept)[: limits.max_detections]


def _best_first(scores: Floats, threshold: float) -> Places:
    """The anchors with a score above `threshold`, by falling best score and, where that is equal, in their order."""
    best = scores.max(0)
    anchors: Places = np.flatnonzero(best > threshold)
    return anchors[np.argsort(-best[anchors], kind="stable")]


def _found(columns: Floats, layout: Layout, classes: tuple[int, ...] | None) -> Floats:
    """What is wanted of the anchors `columns`, (4 + classes + extra, anchors), as (boxes, 6 + extra)."""
    columns = columns[:, np.isfinite(columns).all(0)]
    place, scores, extra = np.split(columns, (4, 4 + layout.num_classes))
    numbers = scores.argmax(0)
    found = np.empty((columns.shape[1], NUM_BOX_COLUMNS + len(extra)), np.float32)
    found[:, :4] = place.T if layout.rotated else _corners(place).T
    found[:, 4] = scores[numbers, np.arange(len(numbers))]
    found[:, 5] = numbers
    found[:, NUM_BOX_COLUMNS:] = extra.T
    return found if classes is None else found[np.isin(numbers, classes)]


def _corners(place: npt.NDArray[np.float32]) -> Floats:
    """(4, boxes): from centre and size to corners."""
    centre, half = place[:2], place[2:] / 2
    return np.concatenate((centre - half, centre + half))


def _apart(found: Floats, rotated: bool) -> Floats:
    """The boxes' shapes with classes moved apart, as the suppression wants them."""
    offset = found[:, 5:6] * CLASS_OFFSET
    if rotated:
        return np.concatenate((found[:, :2] + offset, found[:, 2:4], found[:, -1:]), 1)
    return found[:, :4] + offset
