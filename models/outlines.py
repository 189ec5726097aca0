"""Several outlines as one, for a mask that falls into parts. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[Any]
MAX_POINT_PAIRS = 4_000_000


def joined(outlines: Sequence[Points]) -> Points:
    """All outlines as one, joined by thin bridges where one is nearest to the next: there along, and back again.

    Each is (points, 2), whole numbers. The points are those of the library's `merge_multi_segment`. It compares every
    point of an outline with every point of the next; where this would take much memory, which only a mask of pure
    noise does, the longest outline alone stands for the mask.
    """
    if len(outlines) == 1:
        return outlines[0]
    if max(len(one) * len(two) for one, two in pairwise(outlines)) > MAX_POINT_PAIRS:
        return max(outlines, key=len)
    bridges = [_nearest(one, two) for one, two in pairwise(outlines)]
    there = [_from(outlines[0], bridges[0][0])]
    back = []
    for outline, (_, landing), (leaving, _) in zip(outlines[1:-1], bridges, bridges[1:], strict=False):
        if landing > leaving:
            landing, leaving = len(outline) - 1 - landing, len(outline) - 1 - leaving
            outline = outline[::-1]
        around = _from(outline, landing)
        there.append(around[: leaving - landing + 1])
        back.append(around[leaving - landing :])
    there.append(_from(outlines[-1], bridges[-1][1]))
    return np.concatenate((*there, *reversed(back)))


def _nearest(ones: Points, others: Points) -> tuple[int, int]:
    """The indices of the two points that are nearest to each other."""
    x, y = (column[:, None] for column in ones.T)
    distances = (x - others[:, 0]) ** 2 + (y - others[:, 1]) ** 2
    one, other = divmod(int(distances.argmin()), len(others))
    return one, other


def _from(outline: Points, start: int) -> Points:
    """The outline once around from `start`, which is there at both ends."""
    return np.concatenate((outline[start:], outline[: start + 1]))
