"""What the header of an image says of its size, before anybody decodes it."""

from __future__ import annotations

from typing import Literal

from server import png, sniff
from server.errors import RequestFailedError
from server.jpeg import read_header

_GIF_SIZE, _BMP_SIZE = 6, 18


def declared_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height as stored; None where only a decoder can tell (a JPEG out of the ordinary).

    Raises RequestFailedError ``unsupported_image_format`` or ``image_undecodable``.
    """
    name = sniff.image_format(encoded)
    if name is None:
        is_known = sniff.is_other_format(encoded)
        raise RequestFailedError("unsupported_image_format" if is_known else "image_undecodable")
    match name:
        case "JPEG":
            header = read_header(encoded)
            return (header.width, header.height) if header is not None else None
        case "PNG":
            return png.header_size(encoded) or (0, 0)
        case "WEBP":
            return sniff.webp_size(encoded) or (0, 0)
        case "GIF":
            size = _sides(encoded, _GIF_SIZE, 2, "little")
            return size if all(size) else None  # the first frame's then
        case _:
            return _bmp_size(encoded)


def _sides(encoded: bytes, start: int, size: int, order: Literal["big", "little"]) -> tuple[int, int]:
    width = int.from_bytes(encoded[start : start + size], order)
    height = int.from_bytes(encoded[start + size : start + 2 * size], order)
    return width, height


def _bmp_size(encoded: bytes) -> tuple[int, int]:
    if encoded[14] == 12:  # the oldest header has short sides
        return _sides(encoded, _BMP_SIZE, 2, "little")
    width, height = (
        int.from_bytes(encoded[at : at + 4], "little", signed=True) for at in (_BMP_SIZE, _BMP_SIZE + 4)
    )
    return width, abs(height)  # rows from the top have a negative height
