"""JPEG by libjpeg-turbo itself: the same pixels as Pillow's, which is built on it, without Pillow's copies.

Whatever is out of the ordinary (CMYK, arithmetic coding, 12 bits, lossless, any damage at all) is left to Pillow,
so that nobody but Pillow says what a broken file is worth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import simplejpeg  # type: ignore[import-untyped]

from pool.model import Pixels

MAX_SEGMENTS = 5000
"""A photograph has about ten; the colour profile and the metadata of the largest take some hundred more."""

_ORDINARY_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; all of them Huffman coded
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _START_OF_SCAN, _APP1 = 0xC2, 0xDA, 0xE1
_WITHOUT_LENGTH = frozenset({0x00, 0x01, 0xFF, *range(0xD0, 0xDA)})
_EXIF, _XMP = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")
_FILL = re.compile(rb"\xff+")
"""Any number of these may stand before a marker; a body may consist of nothing else, so no loop of our own."""
_ORIENTATION_TAG, _SHORT, _LONG = 0x0112, 3, 4


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What stands before the first scan: pixels as stored, and the EXIF orientation, 1 to 8."""

    width: int
    height: int
    orientation: int
    has_one_scan: bool
    """Whatever follows, libjpeg reads no second one."""

    @property
    def is_turned(self) -> bool:
        """Whether the upright picture is as wide as the stored one is high."""
        return self.orientation >= 5

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        return (self.height, self.width) if self.is_turned else (self.width, self.height)


def read_header(encoded: bytes) -> JpegHeader | None:
    """None for a file that is not an ordinary JPEG or not a sound one as far as can be seen. Never raises."""
    frame, exif, xmp = None, b"", b""
    position = 2
    for _ in range(MAX_SEGMENTS):
        if encoded[position : position + 2] == b"\xff\xff":
            position = _FILL.match(encoded, position).end() - 1  # type: ignore[union-attr]  # two are there
        start, length = position + 4, int.from_bytes(encoded[position + 2 : position + 4], "big")
        marker = (
            encoded[position + 1] if encoded[position : position + 1] == b"\xff" and length >= 2 else 0x00
        )
        position = start + length - 2
        if marker in _WITHOUT_LENGTH or position > len(encoded):
            return None
        if marker == _START_OF_SCAN:
            if frame is None:
                return None
            width, height, num_components, is_progressive = frame
            has_one_scan = not is_progressive and encoded[start : start + 1] == num_components
            return JpegHeader(width, height, _orientation(exif, xmp), has_one_scan)
        if marker in _FRAMES:
            precision, num_components = encoded[start : start + 1], encoded[start + 5 : start + 6]
            if (
                marker not in _ORDINARY_FRAMES
                or precision != b"\x08"
                or num_components not in (b"\x01", b"\x03")
            ):
                return None
            height, width = (int.from_bytes(encoded[at : at + 2], "big") for at in (start + 1, start + 3))
            frame = width, height, num_components, marker == _PROGRESSIVE
        if marker == _APP1 and encoded.startswith(_EXIF, start):
            exif = exif or encoded[start + len(_EXIF) : position]
        if marker == _APP1 and encoded.startswith(_XMP, start):
            xmp = encoded[start:position]
    return None


def exif_orientation(tiff: bytes) -> int | None:
    """The tag's value in the first directory of `tiff`, the content of an EXIF segment. None without a sound one."""
    if tiff[:4] not in (b"II*\x00", b"MM\x00*"):
        return None
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    at = number(4, 4)
    for entry in range(at + 2, min(at + 2 + 12 * number(at, 2), len(tiff) - 11), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            kind, count = number(entry + 2, 2), number(entry + 4, 4)
            if count != 1 or kind not in (_SHORT, _LONG):
                return None
            return number(entry + 8, 2 if kind == _SHORT else 4)
    return None


def _orientation(exif: bytes, xmp: bytes) -> int:
    orientation = exif_orientation(exif)
    if orientation is None and (found := _XMP_ORIENTATION.search(xmp)):
        orientation = int(found[1])
    return orientation if orientation is not None and 1 <= orientation <= 8 else 1


def decode_jpeg(encoded: bytes, header: JpegHeader, enough: tuple[int, int] | None = None) -> Pixels | None:
    """The upright picture, uint8 RGB of shape (height, width, 3); None if libjpeg has anything to say against it.

    With `enough`, a width and height, a picture of twice that or more comes out in as many eighths of its size as are
    `enough`, four at most. The interpreter is free meanwhile. `header` is the file's own.
    """
    min_width, min_height = (enough[::-1] if header.is_turned else enough) if enough else (0, 0)
    try:
        picture: Pixels = simplejpeg.decode_jpeg(
            encoded, "RGB", min_width=min_width, min_height=min_height, min_factor=2.0 if enough else 1.0
        )
    except ValueError:  # warnings of libjpeg too
        return None
    return _upright(picture, header.orientation)


def _upright(picture: Pixels, orientation: int) -> Pixels:
    """Flips happen in place; what is turned by a quarter is copied once."""
    match orientation:
        case 2:
            turned = cv2.flip(picture, 1, dst=picture)
        case 3:
            turned = cv2.flip(picture, -1, dst=picture)
        case 4:
            turned = cv2.flip(picture, 0, dst=picture)
        case 5:
            turned = cv2.transpose(picture)
        case 6:
            turned = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.transpose(picture)
            turned = cv2.flip(turned, -1, dst=turned)
        case 8:
            turned = cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return picture
    return np.asarray(turned, np.uint8)
