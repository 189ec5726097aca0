"""PNG: what of its chunks the first frame needs."""

from __future__ import annotations

import struct
import zlib

from server.parts import MAX_METADATA_BYTES, MAX_PARTS, Parts

MAX_INFLATION = 1100
"""Deflate makes of one byte 1032 at most; a solid picture comes close to it."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_GREY, _COLOUR = 0, 2
_ORIENTATION_KEYS = {b"XML:com.adobe.xmp", b"Raw profile type exif"}


def read(encoded: bytes) -> Parts | None:
    """The header's size; header, palette, transparency, pixels and orientation. None for a file without sound ones.

    Of an animation this leaves what viewers of still pictures show. Lengths that lead outside the file are the
    decoder's to refuse.
    """
    size = header_size(encoded)
    if size is None:
        return None
    width, height = size
    depth, colour = encoded[24:26]
    kept: dict[bytes, bytes] = {}  # the first of each kind
    pixels_begin = pixels_end = 0
    position = 33
    for _ in range(MAX_PARTS):
        length, kind = (
            int.from_bytes(encoded[position : position + 4], "big"),
            encoded[position + 4 : position + 8],
        )
        if len(kind) < 4 or kind == b"IEND":
            break
        begin, position = position, position + 12 + length
        if kind == b"IDAT":
            if not pixels_begin or pixels_end == begin:
                pixels_begin, pixels_end = pixels_begin or begin, position
        elif length <= MAX_METADATA_BYTES and (
            kind == b"eXIf"
            or (kind in (b"PLTE", b"tRNS") and not pixels_begin)
            or (kind in (b"iTXt", b"tEXt", b"zTXt") and _turns(encoded, begin))
        ):
            kept.setdefault(kind, encoded[begin:position])
    else:
        return None
    if b"tRNS" in kept:
        kept[b"tRNS"] = _as_pillow_takes_it(kept[b"tRNS"], depth, colour)
    content = [encoded[:33], *kept.values(), encoded[pixels_begin:pixels_end], chunk(b"IEND", b"")]
    row_bytes = 1 + -(-width * _CHANNELS.get(colour, 1) * depth // 8)
    return Parts(width, height, b"".join(content), height * row_bytes // MAX_INFLATION)


def header_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height; None without a whole header and its checksum."""
    if len(encoded) < 33 or encoded[8:16] != b"\x00\x00\x00\rIHDR" or not _is_sound(encoded[8:33]):
        return None
    width, height = struct.unpack_from(">II", encoded, 16)
    return width, height


def _turns(encoded: bytes, begin: int) -> bool:
    """Whether the text may say how the picture is turned."""
    return encoded[begin + 8 : begin + 88].partition(b"\x00")[0] in _ORIENTATION_KEYS


def _as_pillow_takes_it(transparency: bytes, depth: int, colour: int) -> bytes:
    """Pillow compares the key with samples as it has scaled them; of 16-bit colours it keeps the upper bytes only,
    among which the key would hit colours that are not meant: none is transparent then."""
    if colour == _COLOUR and depth == 16:
        return b""
    if colour == _GREY and depth in (2, 4) and len(transparency) == 14 and _is_sound(transparency):
        key = int.from_bytes(transparency[8:10], "big") & (1 << depth) - 1
        return chunk(b"tRNS", (key * (255 // ((1 << depth) - 1))).to_bytes(2, "big"))
    return transparency


def _is_sound(written: bytes) -> bool:
    return zlib.crc32(written[4:-4]) == int.from_bytes(written[-4:], "big")


def chunk(kind: bytes, content: bytes) -> bytes:
    """One with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
