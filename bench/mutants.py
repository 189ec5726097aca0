"""Damaged pictures, each by its number: small sound ones of every format and mode, with a few wounds.

Half of the wounds know the format: chunks and segments are dropped, doubled, swapped, their lengths and the sizes in
headers changed, checksums made right again, so that damage gets past the first check of a decoder.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

_NUMBERS = (
    *(0, 1, 2, 7, 8, 127, 128, 255, 256, 4095, 4096, 16383, 16384, 32767, 32768, 65535),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1),
)
"""Where programs go wrong."""
MAX_WOUNDS = 4
_MAX_BYTES = 64 * 1024

Wound = Callable[[random.Random, bytes], bytes]


def corpus() -> list[bytes]:
    """Sound pictures of 16 to 47 pixels; the same each time."""
    y, x = np.mgrid[0:33, 0:47]
    smooth = Image.fromarray(np.stack([x * 5, y * 7, (x + y) * 3], axis=2).astype(np.uint8))
    grain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    alpha = smooth.copy()
    alpha.putalpha(Image.fromarray((x * 5).astype(np.uint8)))
    grey, black_white, palette = (smooth.convert(mode) for mode in ("L", "1", "P"))
    deep = Image.fromarray((x * 1000 + y).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    animated = {"save_all": True, "append_images": [smooth.transpose(Image.Transpose.ROTATE_180)]}
    jpeg_options: list[dict[str, Any]] = [
        {}, {"progressive": True}, {"subsampling": "4:1:1"}, {"restart_marker_blocks": 2}, {"exif": exif},
    ]  # fmt: skip
    webp_options: list[dict[str, Any]] = [
        {"quality": 60},
        {"lossless": True},
        {"lossless": True, "exif": exif},
    ]
    return [
        *(
            _encode(image, "JPEG", **each)
            for each in jpeg_options
            for image in (smooth, grain, grey, smooth.convert("CMYK"))
        ),
        *(
            _encode(image, "PNG")
            for image in (smooth, grain, alpha, palette, black_white, grey, smooth.convert("LA"), deep)
        ),
        _encode(palette, "PNG", transparency=bytes(range(0, 250, 10))),
        *(_encode(smooth, "PNG", **each) for each in ({"exif": exif}, animated)),
        *(_encode(image, "GIF") for image in (smooth, grain, black_white)),
        *(_encode(smooth, "GIF", **each) for each in ({"interlace": 1, "transparency": 3}, animated)),
        *(_encode(image, "BMP") for image in (smooth, grain, alpha, palette, grey, black_white)),
        _run_lengths(),
        *(_encode(image, "WEBP", **each) for each in webp_options for image in (smooth, grain, alpha)),
        _encode(smooth, "WEBP", **animated),
    ]


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _run_lengths() -> bytes:
    """A BMP as Pillow does not write it."""
    rows = b"".join(bytes([10, row, 6, 9, 0, 0]) for row in range(16)) + b"\x00\x01"
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 8, 1, len(rows), 0, 0, 0, 0)
    return (
        b"BM"
        + struct.pack("<IHHI", 54 + 1024 + len(rows), 0, 0, 54 + 1024)
        + header
        + bytes(range(256)) * 4
        + rows
    )


@dataclass(frozen=True)
class Mutants:
    """`mutants.make(7)` is the same in every run of the same seed."""

    seed: int
    sound: Sequence[bytes]

    def make(self, number: int) -> bytes:
        """One file."""
        dice = random.Random(f"{self.seed} {number}")
        picture = dice.choice(self.sound)
        for _ in range(dice.randint(1, MAX_WOUNDS)):
            if dice.random() < 0.1:
                picture = splice(dice, picture, dice.choice(self.sound))
            elif dice.random() < 0.5:
                picture = wound_parts(dice, picture)
            else:
                picture = dice.choice(WOUNDS)(dice, picture)
        return picture[:_MAX_BYTES]


def _place(dice: random.Random, picture: bytes) -> int:
    """Rather in the headers."""
    return int(dice.random() ** 2 * len(picture))


def flip_bits(dice: random.Random, picture: bytes) -> bytes:
    """One to eight."""
    wounded = bytearray(picture)
    for _ in range(dice.randint(1, 8) if picture else 0):
        wounded[_place(dice, picture)] ^= 1 << dice.randrange(8)
    return bytes(wounded)


def set_number(dice: random.Random, picture: bytes) -> bytes:
    """One, two or four bytes, in either order, to a number that programs get wrong."""
    at, size = _place(dice, picture), dice.choice((1, 2, 4))
    number = dice.choice(_NUMBERS) & (1 << 8 * size) - 1
    return picture[:at] + number.to_bytes(size, dice.choice(("little", "big"))) + picture[at + size :]


def truncate(dice: random.Random, picture: bytes) -> bytes:
    """Anywhere."""
    return picture[: dice.randint(0, len(picture))]


def insert(dice: random.Random, picture: bytes) -> bytes:
    """Noise, or one byte many times."""
    at, size = _place(dice, picture), dice.choice((1, 2, 4, 16, 300))
    return (
        picture[:at]
        + (dice.randbytes(size) if dice.random() < 0.5 else dice.randbytes(1) * size)
        + picture[at:]
    )


def repeat(dice: random.Random, picture: bytes) -> bytes:
    """A stretch that comes again."""
    begin = _place(dice, picture)
    end = min(begin + dice.choice((1, 4, 13, 64, 500)), len(picture))
    return picture[:end] + picture[begin:end] * dice.choice((1, 2, 50)) + picture[end:]


def drop(dice: random.Random, picture: bytes) -> bytes:
    """A stretch that is gone."""
    begin = _place(dice, picture)
    return picture[:begin] + picture[begin + dice.choice((1, 2, 4, 13, 64)) :]


WOUNDS: tuple[Wound, ...] = (flip_bits, set_number, truncate, insert, repeat, drop)


def splice(dice: random.Random, picture: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of another."""
    return picture[: _place(dice, picture)] + other[_place(dice, other) :]


def wound_parts(dice: random.Random, picture: bytes) -> bytes:
    """Chunks or segments in disorder, their lengths or their contents changed; checksums of PNG are right."""
    if picture.startswith(b"\x89PNG"):
        head, parts, join = 8, png_parts(picture), _join_png
    elif picture.startswith(b"\xff\xd8"):
        head, parts, join = 2, jpeg_parts(picture), b"".join
    elif picture.startswith(b"RIFF"):
        head, parts, join = 12, riff_parts(picture), b"".join
    else:
        return set_number(dice, picture[:60]) + picture[60:]
    if not parts:
        return flip_bits(dice, picture)
    at, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    match dice.randrange(6):
        case 0:
            parts[at:at] = [parts[at]] * dice.choice((1, 3, 200))
        case 1:
            del parts[at]
        case 2:
            parts[at], parts[other] = parts[other], parts[at]
        case 3:
            parts[at] = set_number(dice, parts[at][:32]) + parts[at][32:]
        case 4:
            parts[at] = _wound_pixels(dice, parts[at])
        case _:
            parts[at] = parts[at][:8] + flip_bits(dice, parts[at][8:])
    return picture[:head] + join(parts)


def png_parts(picture: bytes) -> list[bytes]:
    """Chunks without their checksums."""
    parts, at = [], 8
    while at + 12 <= len(picture):
        end = at + 8 + int.from_bytes(picture[at : at + 4], "big")
        parts.append(picture[at:end])
        at = end + 4
    return parts


def _join_png(parts: Sequence[bytes]) -> bytes:
    return b"".join(part + struct.pack(">I", zlib.crc32(part[4:])) for part in parts)


def jpeg_parts(picture: bytes) -> list[bytes]:
    """Segments; the last is the scan and all behind it."""
    parts, at = [], 2
    while at + 4 <= len(picture) and picture[at] == 0xFF and picture[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(picture[at + 2 : at + 4], "big")
        parts.append(picture[at:end])
        at = end
    return [*parts, picture[at:]]


def riff_parts(picture: bytes) -> list[bytes]:
    """Chunks of a WebP."""
    parts, at = [], 12
    while at + 8 <= len(picture):
        length = int.from_bytes(picture[at + 4 : at + 8], "little")
        parts.append(picture[at : at + 8 + length + length % 2])
        at += 8 + length + length % 2
    return parts


def _wound_pixels(dice: random.Random, chunk: bytes) -> bytes:
    """Of PNG, below the compression; as it is where there is none."""
    if chunk[4:8] not in (b"IDAT", b"fdAT"):
        return flip_bits(dice, chunk)
    try:
        rows = zlib.decompress(chunk[8:])
    except zlib.error:
        return flip_bits(dice, chunk)
    content = zlib.compress(dice.choice(WOUNDS)(dice, rows), 1)
    return struct.pack(">I", len(content)) + chunk[4:8] + content
