"""Colours of classes: always the same for a class, told apart by colour-blind people, seen on dark and on light."""

from __future__ import annotations

Colour = tuple[int, int, int]

COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167), (136, 204, 238), (170, 68, 153), (153, 153, 51),
)  # fmt: skip
"""RGB. The first seven are Okabe's and Ito's, the others Tol's; neither black nor white nor grey."""
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)


def colour_index(class_id: int) -> int:
    """Into COLOURS."""
    return class_id % len(COLOURS)


def colour_of(class_id: int) -> Colour:
    """Of a class."""
    return COLOURS[colour_index(class_id)]


def contrast_to(colour: Colour) -> Colour:
    """Black or white, whichever is read better on `colour`."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else WHITE
