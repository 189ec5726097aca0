"""Which boxes stay where several overlap, in NumPy: upright ones and those with an angle. Runs in a worker.

Boxes are looked at best first, a block at a time: `keep` says which of the next block stay, so whoever asks can stop
when he has enough. What stays is what the library's suppression keeps, to the last bit of its float32 arithmetic.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
KEPT_AT_ONCE = 64  # their overlaps with a block of boxes stay in the nearest cache
EPSILON = 1e-7  # of the library's `batch_probiou`


class Suppression(Protocol):
    """Of two boxes that overlap by more than it was told, the one that comes later goes."""

    def keep(self, shapes: Floats) -> Places:
        """Which of the next `shapes`, best first, stay: rising indices."""
        ...


class UprightSuppression:
    """For boxes as corners, (count, 4). A box goes if one that stays overlaps it, as torchvision's `nms` has it."""

    def __init__(self, iou: float) -> None:
        self._iou = _float32_below(iou)
        self._kept: Floats = np.empty((0, 5), np.float32)

    def keep(self, shapes: Floats) -> Places:
        """Which of the next `shapes`, best first, stay: rising indices."""
        sides = shapes[:, 2:] - shapes[:, :2]
        measured = np.concatenate((shapes, sides[:, :1] * sides[:, 1:]), 1)
        free = np.arange(len(shapes))
        for start in range(0, len(self._kept), KEPT_AT_ONCE):
            better = self._kept[start : start + KEPT_AT_ONCE]
            free = free[~np.any(_intersections(better, measured[free]) > self._iou, axis=0)]
        kept = free[self._first_of(measured[free])]
        self._kept = np.concatenate((self._kept, measured[kept]))
        return kept

    def _first_of(self, measured: Floats) -> list[int]:
        hidden_by = _intersections(measured, measured) > self._iou
        stays = np.ones(len(measured), bool)
        kept: list[int] = []
        for index, hidden in enumerate(hidden_by):
            if stays[index]:
                kept.append(index)
                stays &= ~hidden
        return kept


class RotatedSuppression:
    """For boxes as centre, size and angle, (count, 5). A box goes if any better one overlaps it, whether that one
    stays or not: the library's `fast_nms` with `batch_probiou`."""

    def __init__(self, iou: float) -> None:
        self._iou = _float32_below(iou)
        self._kept: Floats = np.empty((0, 5), np.float32)
        self._gone: Floats = np.empty((0, 5), np.float32)

    def keep(self, shapes: Floats) -> Places:
        """Which of the next `shapes`, best first, stay: rising indices."""
        gaussians = _gaussians(shapes)
        num_shapes = len(shapes)
        is_free = np.ones(num_shapes, bool)
        for better in (self._kept, self._gone):  # most of those that go are known after the few that stay
            left = is_free.nonzero()[0]
            if len(better) and len(left):
                is_free[left] = ~(_resemblances(better, gaussians[left]) > self._iou).any(0)
        left = is_free.nonzero()[0]
        hidden = _resemblances(gaussians, gaussians[left]) > self._iou
        is_free[left] = ~(hidden & (np.arange(num_shapes)[:, None] < left)).any(0)
        self._kept = np.concatenate((self._kept, gaussians[is_free]))
        self._gone = np.concatenate((self._gone, gaussians[~is_free]))
        return is_free.nonzero()[0]


def _float32_below(number: float) -> np.float32:
    """The largest float32 that is not above `number`: a float32 exceeds one where it exceeds the other, and the
    library compares with the float64."""
    nearest = np.float32(number)
    return nearest if float(nearest) <= number else np.nextafter(nearest, np.float32(-np.inf))


def _intersections(ones: Floats, others: Floats) -> Floats:
    """Intersection over union of all pairs, (ones, others); both are corners and area, (count, 5).

    Not a number where both areas are 0: that is above no threshold.
    """
    x1, y1, x2, y2, area = (column[:, None] for column in ones.T)
    other_x1, other_y1, other_x2, other_y2, other_area = others.T
    both = np.minimum(x2, other_x2)
    both -= np.maximum(x1, other_x1)
    height = np.minimum(y2, other_y2)
    height -= np.maximum(y1, other_y1)
    np.maximum(both, 0, out=both)
    np.maximum(height, 0, out=height)
    both *= height
    union = np.add(area, other_area, out=height)
    union -= both
    both /= union
    intersections: Floats = both
    return intersections


def _gaussians(shapes: Floats) -> Floats:
    """Centre and covariance (xx, yy, xy) of each box, (count, 5)."""
    along, across = shapes[:, 2] ** 2 / 12, shapes[:, 3] ** 2 / 12
    cos, sin = np.cos(shapes[:, 4]), np.sin(shapes[:, 4])
    cos2, sin2 = cos**2, sin**2
    covariance = (along * cos2 + across * sin2, along * sin2 + across * cos2, (along - across) * cos * sin)
    return np.concatenate((shapes[:, :2], np.stack(covariance, 1)), 1)


def _resemblances(ones: Floats, others: Floats) -> Floats:
    """The probabilistic intersection over union of all pairs, (ones, others), from 0 to 1.

    Both are Gaussians, (count, 5). See https://arxiv.org/pdf/2106.06072v1.pdf; rounded as the library does it.
    """
    x, y, xx, yy, xy = (column[:, None] for column in ones.T)
    other_x, other_y, other_xx, other_yy, other_xy = others.T
    sum_xx, sum_yy, sum_xy = xx + other_xx, yy + other_yy, xy + other_xy
    determinant = sum_xx * sum_yy - sum_xy**2
    own = np.maximum(xx * yy - xy**2, 0)
    other = np.maximum(other_xx * other_yy - other_xy**2, 0)
    dx, dy = x - other_x, y - other_y
    distance = (sum_xx * dy**2 + sum_yy * dx**2) / (determinant + EPSILON) * 0.25
    distance += sum_xy * -dx * dy / (determinant + EPSILON) * 0.5
    distance += np.log(determinant / (4 * np.sqrt(own * other) + EPSILON) + EPSILON) * 0.5
    np.clip(distance, EPSILON, 100.0, out=distance)
    hellinger = np.sqrt(1.0 - np.exp(-distance) + EPSILON)
    resemblance: Floats = 1 - hellinger
    return resemblance
