"""Pictures that prove whose answer came back: one per request, each with an answer that no other has."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

SAMPLE = Path(__file__).resolve().parents[2] / "models" / "demo" / "samples" / "sample.jpg"
_POISON = (222, 173, 190)
_MARGIN = 64


def numbered(number: int, side: int, *, poison: bool = False) -> tuple[bytes, int]:
    """A PNG of exactly the slot's size and the CRC-32 of its pixels, which is what the fake model answers."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    pixels[0, 0] = _POISON if poison else 0
    pixels[0, 1:4].reshape(-1)[:8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
    return png(pixels), zlib.crc32(pixels.tobytes())


def png(pixels: Pixels) -> bytes:
    """Lossless, with as little work as possible."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def is_poison(pixels: Pixels) -> bool:
    """Whether the first pixel is the one that the fake model dies of."""
    return tuple(int(value) for value in pixels[0, 0]) == _POISON


def shifted(count: int) -> list[bytes]:
    """`count` JPEGs of the sample, each at a place of its own on a larger canvas: so its boxes are its own."""
    sample = Image.open(SAMPLE).convert("RGB")
    size = sample.width + _MARGIN, sample.height + _MARGIN
    steps = int(np.ceil(np.sqrt(count)))
    pictures = []
    for number in range(count):
        canvas = Image.new("RGB", size, (128, 128, 128))
        row, column = divmod(number, steps)
        canvas.paste(sample, (column * _MARGIN // steps, row * _MARGIN // steps))
        buffer = io.BytesIO()
        canvas.save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    return pictures
