"""BMP: sizes from its many headers, and as much of the file as they speak of."""

from __future__ import annotations

import struct

from server.errors import RequestFailedError
from server.parts import Parts

MAX_RUN_LENGTH_PIXELS = 1_000_000
"""Pillow unpacks run lengths in Python, about a second for so many. Nobody has written larger ones for decades."""

_CORE_HEADER_BYTES, _MAX_PALETTE_BYTES = 12, 1024
_PLAIN, _RLE8, _RLE4, _BIT_FIELDS = 0, 1, 2, 3


def read(encoded: bytes) -> Parts | None:
    """The header's size; none without a sound header. Raises RequestFailedError ``image_too_large``."""
    if len(encoded) < 26:
        return None
    begin, header_bytes = struct.unpack_from("<II", encoded, 10)
    if header_bytes == _CORE_HEADER_BYTES:
        width, height, _, depth = struct.unpack_from("<HHHH", encoded, 18)
        compression = _PLAIN
    elif len(encoded) >= 34:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", encoded, 18)
        height = abs(height)  # from the top down
    else:
        return None
    if compression in (_RLE8, _RLE4):
        if width * height > MAX_RUN_LENGTH_PIXELS:
            raise RequestFailedError("image_too_large")
        # Two bytes for each pixel, two more for the end of each row and of all; the rest can draw nothing.
        head = max(begin, 14 + header_bytes + _MAX_PALETTE_BYTES)
        return Parts(width, height, encoded[: head + 2 * (width + 1) * height + 2])
    if compression not in (_PLAIN, _BIT_FIELDS):  # JPEG or PNG inside
        return None
    stride = (width * depth + 31) // 32 * 4
    last_row = (width * depth + 7) // 8  # often written without its padding
    return Parts(width, height, encoded, begin + stride * (height - 1) + last_row)
