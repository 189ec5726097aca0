"""The closed list of colour names of the demo scenes, and the distance that keeps them apart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]

COLOURS: Mapping[str, RGB] = MappingProxyType(
    {
        "red": (216, 36, 36),
        "orange": (246, 136, 20),
        "yellow": (250, 222, 44),
        "green": (34, 148, 58),
        "blue": (34, 84, 212),
        "purple": (122, 40, 164),
        "pink": (246, 138, 190),
        "white": (246, 246, 246),
        "black": (22, 22, 22),
    }
)


def vary_colour(rng: np.random.Generator, name: str, spread: int = 9) -> RGB:
    """A shade of the named colour, each channel moved by at most `spread` levels. Raises KeyError for other names."""
    red, green, blue = np.clip(np.array(COLOURS[name]) + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def colour_distance(pixels: NDArray[np.uint8], colour: RGB) -> NDArray[np.float32]:
    """Perceived distance of RGB pixels (..., 3) uint8 to a colour: (...) float32, 0 for equal, about 765 at most.

    The "redmean" approximation, https://www.compuphase.com/cmetric.htm: cheap, and close enough to tell whether a
    person would see the shape on its background.
    """
    one = pixels.astype(np.float32)
    two = np.array(colour, np.float32)
    mean_red = (one[..., 0] + two[0]) / 2
    red, green, blue = np.moveaxis((one - two) ** 2, -1, 0)
    squared = (2 + mean_red / 256) * red + 4 * green + (2 + (255 - mean_red) / 256) * blue
    return np.asarray(np.sqrt(squared), np.float32)
