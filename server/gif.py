"""GIF: its first frame, and where on the canvas that stands."""

from __future__ import annotations

import struct

from server.parts import MAX_PARTS, Parts

MAX_PIXELS_PER_BYTE = 2560
"""The longest that LZW makes: a code of 12 bits for a run of as many pixels as its table has entries."""

_HEADER_BYTES, _DESCRIPTOR_BYTES = 13, 10
_GRAPHIC_CONTROL = b"!\xf9"


def read(encoded: bytes) -> Parts | None:
    """The canvas, and a file that consists of the first frame. None without a frame.

    Where the frame leaves the canvas uncovered there is nothing, whatever the file says of a background.
    """
    if len(encoded) < _HEADER_BYTES:
        return None
    canvas_width, canvas_height, flags = struct.unpack_from("<HHB", encoded, 6)
    head_end = _HEADER_BYTES + _palette_bytes(flags)
    found = _first_frame(encoded, head_end)
    if found is None:
        return None
    control, begin = found
    left, top, width, height = struct.unpack_from("<HHHH", encoded, begin + 1)
    content = [
        encoded[:6],
        struct.pack("<HH", width, height),
        encoded[10:head_end],
        control,
        b",\x00\x00\x00\x00",
    ]
    content.append(encoded[begin + 5 :])
    return Parts(
        max(canvas_width, left + width),
        max(canvas_height, top + height),
        b"".join(content),
        width * height // MAX_PIXELS_PER_BYTE,
        (left, top),
    )


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _first_frame(encoded: bytes, position: int) -> tuple[bytes, int] | None:
    """Its graphic control extension, and where its descriptor begins."""
    control = b""
    parts = iter(range(MAX_PARTS))
    for _ in parts:
        introducer = encoded[position : position + 1]
        if introducer == b",":
            return (control, position) if len(encoded) >= position + _DESCRIPTOR_BYTES else None
        if introducer in (b"", b";"):
            return None
        if introducer != b"!":  # junk
            position += 1
            continue
        begin, position = position, position + 2
        for _ in parts:  # of the same account: blocks of one byte are as many
            length = encoded[position] if position < len(encoded) else 0
            position += 1 + length
            if not length:
                break
        if encoded.startswith(_GRAPHIC_CONTROL, begin):
            control = encoded[begin:position]
    return None
