"""A picture whose answer is known: by it a worker is examined before it serves and when it was idle or shaken.

Front process. The known answer is the first worker's; if two fresh workers agree that it was wrong, theirs counts.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

_SEED = 20
_CELLS = 8
_RELATIVE, _ABSOLUTE = 0.05, 0.001


def paint(pixels: npt.NDArray[np.uint8]) -> None:
    """Fill uint8 `pixels` (height, width, ...) with coarse and fine structure, the same every time."""
    rng = np.random.default_rng(_SEED)
    height, width = pixels.shape[:2]
    coarse = rng.integers(0, 256, (_CELLS, _CELLS, *pixels.shape[2:]), np.int16)
    rows = np.arange(height) * _CELLS // height
    columns = np.arange(width) * _CELLS // width
    fine = rng.integers(-20, 21, pixels.shape, np.int16)
    pixels[:] = np.clip(coarse[rows[:, None], columns[None, :]] + fine, 0, 255)


class KnownAnswer:
    """What the canary's answer has to be, within a tolerance for numbers."""

    def __init__(self) -> None:
        self._known: Any = None
        self._doubted_by: Any = None

    def check(self, payload: bytes | None, *, is_fresh: bool) -> bool:
        """Whether `payload` (None: the worker failed) is right. `is_fresh`: the worker has not served yet."""
        answer = _parse(payload)
        if answer is None:
            return False
        if self._known is None or alike(answer, self._known):
            self._known = answer if self._known is None else self._known
            self._doubted_by = None
            return True
        if is_fresh and self._doubted_by is not None and alike(answer, self._doubted_by):
            self._known, self._doubted_by = answer, None
            return True
        if is_fresh:
            self._doubted_by = answer
        return False


def _parse(payload: bytes | None) -> Any:
    """None for what is no JSON object; JSON has no NaN, so a number that is not finite came as null."""
    if payload is None:
        return None
    try:
        answer = json.loads(payload)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def alike(one: Any, other: Any) -> bool:
    """Equal JSON, where numbers may differ by 5 % or 0.001."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if _is_number(one) and _is_number(other):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(one) is type(other) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
