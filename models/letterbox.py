"""Where the original lies in the letterboxed input of a network, and back again. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """`shape` is the original's (height, width) in pixels. Gains are pixels of the input per pixel of the original, of
    each side its own, as sides are rounded; pads are pixels of the input left of and above the original."""

    shape: tuple[int, int]
    gain_x: float
    gain_y: float
    pad_x: int
    pad_y: int

    @classmethod
    def between(cls, shape: tuple[int, int], input_shape: tuple[int, int]) -> Letterbox:
        """As the library's `LetterBox` puts an image of `shape` into `input_shape`, both (height, width)."""
        gain = min(input_shape[0] / shape[0], input_shape[1] / shape[1])
        height, width = (max(round(side * gain), 1) for side in shape)
        pad_x, pad_y = (
            round((whole - part) / 2 - 0.1)
            for whole, part in ((input_shape[1], width), (input_shape[0], height))
        )
        return cls(shape, width / shape[1], height / shape[0], pad_x, pad_y)

    def undo(self, points: Points) -> None:
        """Change x and y, the first two of the last axis, from pixels of the input to pixels of the original."""
        points[..., 0] -= self.pad_x
        points[..., 1] -= self.pad_y
        self.undo_size(points)

    def undo_size(self, sizes: Points) -> None:
        """The same for widths and heights."""
        sizes[..., 0] /= self.gain_x
        sizes[..., 1] /= self.gain_y

    def clip(self, points: Points) -> None:
        """Move x and y, the first two of the last axis, that lie outside the original to its edge."""
        height, width = self.shape
        for column, most in ((points[..., 0], width), (points[..., 1], height)):
            np.clip(column, 0, most, out=column)
