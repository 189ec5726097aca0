"""WebP: size from the header, and of an extended file the chunks that its first frame needs."""

from __future__ import annotations

from server.parts import MAX_METADATA_BYTES, MAX_PARTS, Parts
from server.sniff import webp_size

_EXTENDED, _EXIF, _XMP = b"VP8X", b"EXIF", b"XMP "
_FRAME = (b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_EXTENDED_BYTES, _FLAGS_AT = 18, 8
_ICC_FLAG, _ALPHA_FLAG = 0x20, 0x10


def read(encoded: bytes) -> Parts | None:
    """The canvas; None without a sound header.

    Fewer bytes than pixels prove nothing: 24 million of one colour fit into 34.
    """
    size = webp_size(encoded)
    if size is None:
        return None
    content = _first_frame(encoded) if encoded[12:16] == _EXTENDED else encoded
    return None if content is None else Parts(*size, content)


def _first_frame(encoded: bytes) -> bytes | None:
    kept: dict[bytes, bytes] = {}  # the first of each kind
    position = 12
    for _ in range(MAX_PARTS):
        kind, length = (
            encoded[position : position + 4],
            int.from_bytes(encoded[position + 4 : position + 8], "little"),
        )
        if len(kind) < 4:
            break
        begin, position = position, position + 8 + length + length % 2
        is_wanted = kind in (_EXTENDED, b"ANIM", *_FRAME) or (
            kind in (_EXIF, _XMP) and length <= MAX_METADATA_BYTES
        )
        if is_wanted and kind not in kept:
            kept[kind] = encoded[begin:position]
    else:
        return None
    header = bytearray(kept[_EXTENDED])
    if len(header) != _EXTENDED_BYTES:
        return None
    header[_FLAGS_AT] &= ~_ICC_FLAG
    if b"ANMF" in kept and kept[b"ANMF"][14:20] != header[12:18]:
        header[_FLAGS_AT] |= _ALPHA_FLAG  # around a frame that is smaller than the canvas there is nothing
    kept[_EXTENDED] = bytes(header)
    chunks = b"WEBP" + b"".join(kept.values())
    return b"RIFF" + len(chunks).to_bytes(4, "little") + chunks
