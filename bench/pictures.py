"""Distinct pictures for benches: no two have the same bytes or the same pixels, and each costs some microseconds.

A JPEG with restart markers consists of strips that can be decoded independently. A few of its strips are encoded in
sixteen ways beforehand; which of them a picture is put together from spells its number. So every request of every
bench has a picture of its own, and making it takes next to nothing from the server that shares the processor.
"""

from __future__ import annotations

import io
import re
import struct
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

NUM_DIGITS = 8
NUM_WAYS = 16
NUM_PICTURES = NUM_WAYS**NUM_DIGITS
_STRIP = 16
"""Rows of pixels between two restart markers, with colours at half resolution."""
_SPREAD = 2_654_435_761
"""Odd, so that multiplying by it modulo 2**32 is one to one: consecutive pictures differ in several strips."""
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
QUALITY = 60
"""Gives about 147 kB for bus.jpg, which itself has 137 kB."""


def bus() -> Path:
    """`bus.jpg` (810 x 1080) of the installed ultralytics package, found without importing it."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("ultralytics is not installed")
    return Path(spec.origin).parent / "assets" / "bus.jpg"


class Pictures:
    """JPEGs of `source` (bus.jpg by default), each with patches of noise that spell its number."""

    def __init__(self, source: Path | None = None, quality: int = QUALITY, seed: int = 0) -> None:
        """Raises ValueError for a picture with fewer strips of 16 rows than digits."""
        base = np.asarray(Image.open(source or bus()).convert("RGB"))
        num_strips = base.shape[0] // _STRIP
        if num_strips < NUM_DIGITS:
            raise ValueError(f"a picture of {base.shape[0]} rows has too few strips")
        places = [(2 * digit + 1) * num_strips // (2 * NUM_DIGITS) for digit in range(NUM_DIGITS)]
        random = np.random.default_rng(seed)
        ways = [_encode_strips(_with_patches(base, places, random), quality) for _ in range(NUM_WAYS)]
        head, strips = ways[0]
        self._fixed = [head, *_between(strips, places)]
        self._digits = [[way[1][place] for way in ways] for place in places]

    def jpeg(self, number: int) -> bytes:
        """The picture of `number`, which counts modulo `NUM_PICTURES`."""
        left = number * _SPREAD % NUM_PICTURES
        parts = [self._fixed[0]]
        for digit in range(NUM_DIGITS):
            left, way = divmod(left, NUM_WAYS)
            parts += (self._fixed[digit + 1], self._digits[digit][way])
        parts.append(self._fixed[-1])
        return b"".join(parts)


def _with_patches(base: np.ndarray, places: list[int], random: np.random.Generator) -> np.ndarray:
    """A copy with one patch of coarse noise, 16 x 48 pixels, in each of the strips `places`."""
    pixels = base.copy()
    for place in places:
        top, left = place * _STRIP, random.integers(0, max(1, base.shape[1] - 48))
        noise = random.integers(0, 256, (2, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        pixels[top : top + _STRIP, left : left + 48] = noise[:, : base.shape[1] - left]
    return pixels


def _encode_strips(pixels: np.ndarray, quality: int) -> tuple[bytes, list[bytes]]:
    """What stands before the first strip, and the strips, each with the marker that ends it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, restart_marker_rows=1)
    jpeg = buffer.getvalue()
    scan = jpeg.rindex(b"\xff\xda")
    start = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    ends = [found.end() for found in _RESTART.finditer(jpeg, start)] + [len(jpeg)]
    return jpeg[:start], [jpeg[begin:end] for begin, end in zip([start, *ends], ends, strict=False)]


def _between(strips: list[bytes], places: list[int]) -> list[bytes]:
    """The strips that all pictures share, joined: before the first of `places`, between them, after the last."""
    begins, ends = [0, *(place + 1 for place in places)], [*places, len(strips)]
    return [b"".join(strips[begin:end]) for begin, end in zip(begins, ends, strict=True)]


def distinct_jpegs(
    count: int, source: Path | None = None, quality: int = QUALITY, seed: int = 0
) -> list[bytes]:
    """`count` of them at once. Another `seed` gives other patches."""
    pictures = Pictures(source, quality, seed)
    return [pictures.jpeg(number) for number in range(count)]


class Bitmaps:
    """Uncompressed pictures (BMP) of 216 x 216 pixels, 140 kB each: next to nothing to decode."""

    SIDE = 216

    def __init__(self, seed: int = 0) -> None:
        pixels = np.random.default_rng(seed).integers(0, 256, (self.SIDE, self.SIDE, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "BMP")
        self._bytes = buffer.getvalue()

    def bitmap(self, number: int) -> bytes:
        """The picture of `number`, which its last pixels spell, modulo 2**64."""
        return self._bytes[:-8] + struct.pack("<Q", number % 2**64)
