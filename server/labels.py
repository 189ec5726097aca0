"""Labels of boxes: inside the picture, beside each other where there is room, readable on any colour."""

from __future__ import annotations

from PIL import ImageDraw, ImageFont

from server.lettering import plain, shortened
from server.palette import Colour, contrast_to

Place = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""


class Labels:
    """Of one picture."""

    def __init__(
        self, draw: ImageDraw.ImageDraw, size: tuple[int, int], font: ImageFont.FreeTypeFont
    ) -> None:
        """`size` is the picture's (width, height)."""
        self._draw = draw
        self._size = size
        self._font = font
        ascent, descent = font.getmetrics()
        self._padding = max(int(font.size) // 6, 1)
        self._height = ascent + descent + self._padding
        self._places: list[Place] = []

    def add(self, text: str, box: Place, colour: Colour) -> Place | None:
        """Put `text` at the corner of `box`, on a ground of `colour`. Its place, None if the picture is too small."""
        width, height = self._size
        text = shortened(plain(text), self._font, width - 2 * self._padding)
        if not text or self._height > height:
            return None
        place = self._free_place(int(self._font.getlength(text)) + 1 + 2 * self._padding, box)
        self._places.append(place)
        left, top, right, bottom = place
        self._draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
        self._draw.text((left + self._padding, top), text, fill=contrast_to(colour), font=self._font)
        return place

    def _free_place(self, width: int, box: Place) -> Place:
        """Above the box, in it, below it; where others are the first of them."""
        left, top, _, bottom = box
        tops = (top - self._height, top, bottom, bottom - self._height)
        places = [self._clamped(left, each, width) for each in tops]
        fitting = [place for place, wanted in zip(places, tops, strict=True) if place[1] == wanted] or places
        free = (place for place in fitting if not any(_overlap(place, other) for other in self._places))
        return next(free, fitting[0])

    def _clamped(self, left: int, top: int, width: int) -> Place:
        left = max(min(left, self._size[0] - width), 0)
        top = max(min(top, self._size[1] - self._height), 0)
        return left, top, min(left + width, self._size[0]), top + self._height


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
