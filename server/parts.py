"""What the readers of the formats find: the size that a header claims, and the parts that the first frame needs.

Pillow looks at every part of a file in Python: two megabytes of compressed colour profiles keep it busy for five
seconds, a million comments of one byte for one. A file of the size that is allowed could so hold a thread, and the
interpreter with it, for a minute. The readers skip such parts unseen, and refuse more of them than a picture has.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_PARTS = 20_000
"""Chunks, blocks or segments in front of, or between, the pixels. libpng writes 8 KB of pixels in each."""
MAX_METADATA_BYTES = 65_536
"""Of a piece of metadata that may say how a picture is turned, as much as JPEG allows; in more nobody looks."""


@dataclass(frozen=True, slots=True)
class Parts:
    """One file's."""

    width: int
    height: int
    """Of the whole picture as stored, from the header."""
    content: bytes
    """A file of the same format with the first frame, and the metadata that may turn it, alone."""
    min_bytes: int = 0
    """Fewer than these, in all that was sent, cannot hold so many pixels: the header lies."""
    frame_at: tuple[int, int] | None = None
    """Where in the picture, from the left and from the top, `content` belongs if it is a part of it."""
