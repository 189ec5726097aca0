"""JPEG for Pillow: the segments that decide about pixels, without the thousands that may stand among them."""

from __future__ import annotations

import re

from server.jpeg import MAX_SEGMENTS
from server.parts import Parts

MAX_PIXELS_PER_BYTE = 512
"""Huffman codes have a bit at least, and each block of 8 x 8 has one in the coarsest scan. Arithmetic coding has no
such bound."""
MAX_JUNK_BYTES = MAX_TABLE_BYTES = 65_536
"""Between two segments, which Pillow forgives; and of all tables together, of which a picture needs some hundred."""

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ORDINARY_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive; all of them Huffman coded
_TABLES = frozenset({0xC4, 0xDB, 0xDD})  # Huffman, quantisation, restart interval
_COLOURS = frozenset({0xE0, 0xEE})  # JFIF and Adobe
_TURNS = (b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00")


def read(encoded: bytes) -> Parts | None:
    """The frame's size; None for what is not baseline, extended or progressive of 8 bits, or has no scan."""
    size, table_bytes = None, 0
    kept, turns = [b"\xff\xd8"], dict[bytes, bytes]()
    position = 2
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(encoded, position, position + MAX_JUNK_BYTES)
        if found is None:
            return None
        begin, position = found.start(), found.end()
        marker = encoded[begin + 1]
        if marker in _WITHOUT_LENGTH:
            continue
        if marker == _START_OF_SCAN and size is not None:
            content = b"".join([*kept, *turns.values(), encoded[begin:]])
            return Parts(*size, content, size[0] * size[1] // MAX_PIXELS_PER_BYTE)
        position += max(int.from_bytes(encoded[position : position + 2], "big"), 2)
        segment = encoded[begin:position]
        if marker in _FRAMES:
            if marker not in _ORDINARY_FRAMES or size is not None or segment[4:5] != b"\x08":
                return None
            size = int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        if marker in _TABLES:
            table_bytes += len(segment)
        if marker in _FRAMES | _TABLES | _COLOURS:
            kept.append(segment)
        for name in _TURNS:
            if marker == 0xE1 and segment.startswith(name, 4):
                turns.setdefault(name, segment)
        if marker in (_START_OF_SCAN, _END_OF_IMAGE) or table_bytes > MAX_TABLE_BYTES:
            return None
    return None
