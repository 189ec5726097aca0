"""Masks on a picture: half transparent, the likeliest on top, with an outline where they come as polygons.

OpenCV and not Pillow fills and outlines: polygons have thousands of corners, and Pillow's time goes with corners times
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pool.model import Pixels
from server.palette import COLOURS, colour_index, colour_of
from server.run_lengths import runs_of

_STRIP_PIXELS = 2**20
"""Blended at once: so much memory times 15 is needed beside the picture."""


def draw_masks(picture: Pixels, predictions: Sequence[Mapping[str, Any]], line_width: int) -> None:
    """Blend the masks and polygons of `predictions`, best first, into `picture`, uint8 RGB of (height, width, 3).

    Raises ValueError for run lengths that are not of this picture.
    """
    masked = [each for each in predictions if each.get("mask") or each.get("polygon")]
    if not masked:
        return
    height, width = picture.shape[:2]
    layer = np.zeros((width, height), np.uint8)  # lies as run lengths do: one column after the other
    polygons = [(each, _corners(each["polygon"])) for each in masked if each.get("polygon")]
    for each, corners in reversed(polygons):
        cv2.fillPoly(layer, [np.ascontiguousarray(corners[:, ::-1])], colour_index(each["class_id"]) + 1)
    for each in reversed(masked):
        if each.get("mask"):
            _fill_runs(layer, each["mask"], colour_index(each["class_id"]) + 1)
    _blend(picture, layer)
    for each, corners in reversed(polygons):
        cv2.polylines(
            picture, [_thinned(corners, line_width)], True, colour_of(each["class_id"]), min(line_width, 255)
        )


def _corners(polygon: Sequence[Sequence[float]]) -> npt.NDArray[np.int32]:
    """The pixels that they lie in, (corners, 2)."""
    return np.floor(np.asarray(polygon, np.float64)).clip(-(2**15), 2**15).astype(np.int32)


def _thinned(corners: npt.NDArray[np.int32], line_width: int) -> npt.NDArray[np.int32]:
    """Without those that lie in the line to the next one anyway."""
    walked = np.hypot(*np.diff(corners, axis=0, prepend=corners[:1]).T).cumsum()
    steps = np.floor(walked / max(line_width / 2, 1.0))
    return np.ascontiguousarray(corners[np.diff(steps, prepend=-1.0) > 0])


def _fill_runs(layer: Pixels, mask: Mapping[str, Any], number: int) -> None:
    width, height = layer.shape
    if tuple(mask["size"]) != (height, width):
        raise ValueError("a mask of another picture")
    flat = layer.reshape(-1)
    starts, ends = runs_of(mask["counts"], flat.size)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        flat[start:end] = number


def _blend(picture: Pixels, layer: Pixels) -> None:
    """Half of the colour of each number in `layer`, (width, height), half of what was there; nothing where it is 0."""
    height, width = picture.shape[:2]
    halves = np.array([(0, 0, 0), *COLOURS], np.uint8) // 2
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        numbers = np.ascontiguousarray(layer[:, top : top + rows].T)
        if not numbers.any():
            continue
        strip = picture[top : top + rows]
        mixed = (strip >> 1) + halves[numbers]
        np.copyto(strip, mixed, where=(numbers > 0)[:, :, None])
