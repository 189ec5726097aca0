"""What bytes claim to be, read from their first bytes and headers only: nothing here decodes a pixel."""

from __future__ import annotations

import re

MAX_JPEG_SCANS = 100
"""A progressive file has about ten; each one more makes the decoder go over the whole picture again, so that a
few megabytes of tiny scans could keep a thread busy for hours."""
MAX_SCANNED_PIXELS = 720_000_000
"""Of all scans together: thirty of the largest picture."""
MAX_JPEG_MARKERS = 50_000
"""Those that restart a scan are not counted; of others a photograph has some dozens. A file of nothing but these would
hold the interpreter for seconds."""

_MARKER = re.compile(
    rb"\xff[^\x00\xd0-\xd7\xff]"
)  # of any number of fill bytes the last: `\xff+` is quadratic
_OTHER_FORMATS = re.compile(
    rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+"  # TIFF, BigTIFF
    rb"|\x00\x00[\x01\x02]\x00|%!PS|%PDF|P[1-7fF]\s"  # ICO, EPS, PDF, PNM
    rb"|8BPS|SIMPLE  =|DDS |\xd7\xcd\xc6\x9a"  # PSD, FITS, DDS, WMF
    rb"|\x00\x00\x00\x0c(?:jP|JXL)|\xff\x4f\xff\x51|\xff\x0a"  # JPEG 2000, JPEG XL
    rb"|.{4}ftyp"  # AVIF, HEIC, and films
    rb"|\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,200}?-->\s*)?<(?:!DOCTYPE )?svg"
    rb"|PK\x03\x04|\x7fELF|MZ|\x1f\x8b|\x80[\x02-\x05]|\x1aE\xdf\xa3",  # archives, programs, pickles, Matroska
    re.DOTALL,
)


def image_format(encoded: bytes) -> str | None:
    """Pillow's name of the format out of the five that are served, or None."""
    if encoded.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        return "WEBP"
    if encoded.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    # Two letters alone are too little to go by: the header's size follows at byte 14.
    if encoded.startswith(b"BM") and encoded[14:18] in _BMP_HEADER_SIZES:
        return "BMP"
    return None


_BMP_HEADER_SIZES = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def is_other_format(encoded: bytes) -> bool:
    """True for files of a known kind that is not served (as opposed to damage and noise)."""
    return _OTHER_FORMATS.match(encoded[:1024]) is not None


def webp_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height from the header. Pillow's decoder allocates the canvas as soon as it opens a file."""
    kind, rest = encoded[12:16], encoded[20:30]
    if len(rest) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(rest[4:7], "little") + 1, int.from_bytes(rest[7:10], "little") + 1
    if kind == b"VP8L" and rest[0] == 0x2F:
        bits = int.from_bytes(rest[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and rest[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(rest[6:8], "little") & 0x3FFF, int.from_bytes(rest[8:10], "little") & 0x3FFF
    return None


def num_jpeg_scans(encoded: bytes, stop_at: int = MAX_JPEG_SCANS + 1) -> int:
    """Scans up to the end-of-image marker, counted no further than `stop_at`; where there are few for certain,
    whatever a quick look finds (thumbnails and junk behind the end included); `stop_at` for a file of too many
    markers."""
    if (at_most := encoded.count(b"\xff\xda")) < stop_at:
        return at_most
    position, num_scans = 2, 0
    for _ in range(MAX_JPEG_MARKERS):
        found = _MARKER.search(encoded, position)
        if found is None or num_scans == stop_at:
            return num_scans
        marker, position = encoded[found.end() - 1], found.end()
        if marker == 0xD9:
            return num_scans
        if marker == 0xDA:
            num_scans += 1
        if marker not in (0x01, 0xD8):  # every other one has a length
            position += int.from_bytes(encoded[position : position + 2], "big")
    return stop_at
