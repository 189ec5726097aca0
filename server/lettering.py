"""Text on pictures: one font, kept in memory from the start, since a decoder opens no file later."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import ImageFont

_ELLIPSIS = "..."


def _font_bytes() -> bytes:
    font = ImageFont.load_default(10)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType")
    return bytes(font.font_bytes)


_FONT = _font_bytes()


@lru_cache(maxsize=32)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Letters `size` pixels high. The basic layout needs no further library, which would be a file to open."""
    return ImageFont.truetype(io.BytesIO(_FONT), size, layout_engine=ImageFont.Layout.BASIC)


def plain(text: str) -> str:
    """On one line, without signs that cannot be seen."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def shortened(text: str, font: ImageFont.FreeTypeFont, max_width: int) -> str:
    """As much of `text` as `max_width` pixels hold; empty if that is next to nothing."""
    if font.getlength(text) <= max_width:
        return text
    num_signs = _num_fitting(text, font, max_width - int(font.getlength(_ELLIPSIS)) - 1)
    return text[:num_signs] + _ELLIPSIS if num_signs > 1 else ""


def wrapped(text: str, font: ImageFont.FreeTypeFont, max_width: int, max_lines: int) -> list[str]:
    """`text` in lines of at most `max_width` pixels, between words where that is possible; the last says if there was
    more."""
    lines: list[str] = []
    rest = plain(text).strip()
    while rest and len(lines) < max_lines:
        if len(lines) == max_lines - 1:
            lines.append(shortened(rest, font, max_width))
            break
        num_signs = max(_num_fitting(rest, font, max_width), 1)
        if num_signs < len(rest) and (space := rest.rfind(" ", 0, num_signs + 1)) > 0:
            num_signs = space
        lines.append(rest[:num_signs].rstrip())
        rest = rest[num_signs:].lstrip()
    return lines


def _num_fitting(text: str, font: ImageFont.FreeTypeFont, max_width: int) -> int:
    """Signs from the beginning that are no wider together. By halves: a text may be long."""
    low, high = 0, min(len(text), max(max_width, 0))  # no sign is narrower than a pixel
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= max_width else (low, middle - 1)
    return low
