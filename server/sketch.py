"""What is to be drawn on a picture, and how large it may become. Imports nothing that draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PictureKind = Literal["JPEG", "PNG"]

MAX_PICTURE_BYTES = 3 * 4096 * 4096
"""Of a drawn and encoded picture: the largest photograph as PNG; not 24 million pixels of noise."""
MAX_ANSWER_BYTES = 16 * 2**20
"""Of the answer that is drawn: the most that a model's worker may say."""
MIN_BAND_WIDTH = 240
"""Pixels in which a line of text can be read: a narrower picture gets a wider band."""
_SPARE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Sketch:
    """A model's answer, as JSON, to be drawn on the picture it was made for, whose upright `size` is (width, height) in
    pixels; and as what the result is encoded."""

    kind: PictureKind
    answer: bytes
    size: tuple[int, int]

    @property
    def max_bytes(self) -> int:
        """The encoded result is refused beyond: three bytes for each of its pixels, or MAX_PICTURE_BYTES."""
        width, height = self.size
        num_pixels = max(width, MIN_BAND_WIDTH) * (height + max_band_height(height))
        return min(3 * num_pixels + num_pixels // 64 + _SPARE_BYTES, MAX_PICTURE_BYTES)


def max_band_height(height: int) -> int:
    """Pixels of the band of text below a picture of `height`, at most."""
    return max(height // 2, 240)
