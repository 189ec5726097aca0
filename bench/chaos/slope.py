"""Whether something grows: a straight line through measurements, and how sure its slope is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_NUM_BLOCKS = 20
_T_975 = 2.101
"""Student's t at 97.5 % with `_NUM_BLOCKS` - 2 degrees of freedom."""


@dataclass(frozen=True)
class Slope:
    """`value` per unit of x, and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def is_growth(self) -> bool:
        """The whole interval lies above zero."""
        return self.low > 0


def slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Least squares through the means of consecutive blocks, because neighbouring measurements are not independent.

    Raises ValueError for fewer than two measurements a block.
    """
    if len(x) < 2 * _NUM_BLOCKS:
        raise ValueError(f"{len(x)} measurements are too few")
    blocks = [np.mean(block) for block in np.array_split(np.asarray(x, float), _NUM_BLOCKS)]
    means = [np.mean(block) for block in np.array_split(np.asarray(y, float), _NUM_BLOCKS)]
    centred = np.asarray(blocks) - np.mean(blocks)
    spread = float(centred @ centred)
    value = float(centred @ np.asarray(means)) / spread
    residuals = np.asarray(means) - np.mean(means) - value * centred
    error = float(np.sqrt(residuals @ residuals / (_NUM_BLOCKS - 2) / spread))
    return Slope(value, value - _T_975 * error, value + _T_975 * error)
