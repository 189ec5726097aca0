"""Small pictures made on the spot, good and bad."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def noise(width: int, height: int, seed: int = 0) -> Pixels:
    """Random RGB pixels."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def scene(width: int = 96, height: int = 64) -> Pixels:
    """Smooth colours with one bright corner at the top left, so that its orientation can be told."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x + y) % 256], axis=2)
    picture[: height // 4, : width // 4] = 255
    return picture.astype(np.uint8)


def encode(picture: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encode with Pillow."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int = 8, colour: int = 2, rows: bytes = b"", *more: bytes) -> bytes:
    """A PNG written by hand: `rows` are the unfiltered scanlines, `more` are chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(more) + png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header lies about its size."""
    at = jpeg.index(b"\xff\xc0")
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def webp_lossless(width: int, height: int) -> bytes:
    """The header of a lossless WebP of a size, with nothing behind it."""
    bits = (width - 1) | (height - 1) << 14
    content = b"\x2f" + bits.to_bytes(4, "little") + bytes(16)
    chunk = b"VP8L" + len(content).to_bytes(4, "little") + content
    return b"RIFF" + (len(chunk) + 4).to_bytes(4, "little") + b"WEBP" + chunk
