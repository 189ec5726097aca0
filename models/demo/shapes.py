"""The shapes of the demo scenes: their outlines, and anti-aliased masks of them.

The classes stay apart under any rotation, so there is no diamond beside the square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]

_SUPERSAMPLING = 4
_CURVE_POINTS = 96


@dataclass(frozen=True)
class Outline:
    """A closed polygon (n, 2) float64 inside the unit circle, x right and y down, with at most one hole."""

    outer: Points
    hole: Points | None = None


@dataclass(frozen=True)
class Mask:
    """Coverage of one shape on the pixel grid: `alpha` (h, w) uint8, its top left corner at (`left`, `top`).

    The corner may lie outside the picture, where the shape is cut by the border.
    """

    alpha: NDArray[np.uint8]
    left: int
    top: int


def _ring_of_points(count: int, radius: float = 1.0, start: float = -np.pi / 2) -> Points:
    angles = start + np.arange(count) * (2 * np.pi / count)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _arc(centre_x: float, radius: float, first: float, last: float) -> Points:
    angles = np.linspace(first, last, _CURVE_POINTS // 2)
    return np.stack([centre_x + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _circle(rng: np.random.Generator) -> Outline:
    return Outline(_ring_of_points(_CURVE_POINTS))


def _square(rng: np.random.Generator) -> Outline:
    return Outline(_ring_of_points(4))


def _triangle(rng: np.random.Generator) -> Outline:
    return Outline(_ring_of_points(3))


def _hexagon(rng: np.random.Generator) -> Outline:
    return Outline(_ring_of_points(6))


def _star(rng: np.random.Generator) -> Outline:
    points = _ring_of_points(10)
    points[1::2] *= rng.uniform(0.38, 0.48)
    return Outline(points)


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.24, 0.36)
    long = float(np.sqrt(1 - arm * arm))
    quarter = np.array([[-arm, -long], [arm, -long], [arm, -arm]])
    points = [quarter]
    for _ in range(3):
        quarter = np.stack([-quarter[:, 1], quarter[:, 0]], axis=1)
        points.append(quarter)
    return Outline(np.concatenate(points))


def _heart(rng: np.random.Generator) -> Outline:
    # The classic curve (16 sin^3 t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t), centred and scaled into the unit circle.
    t = np.linspace(0, 2 * np.pi, _CURVE_POINTS, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    points = np.stack([x, y - (y.max() + y.min()) / 2], axis=1)
    return Outline(points / np.hypot(*points.T).max())


def _ring(rng: np.random.Generator) -> Outline:
    return Outline(_ring_of_points(_CURVE_POINTS), _ring_of_points(_CURVE_POINTS, rng.uniform(0.5, 0.68)))


def _crescent(rng: np.random.Generator) -> Outline:
    # The unit circle less a circle of `radius` whose centre is moved right by `shift`; they meet at x, +-y.
    shift, radius = rng.uniform(0.42, 0.55), rng.uniform(0.78, 0.88)
    x = (1 - radius * radius + shift * shift) / (2 * shift)
    outer_angle = float(np.arccos(x))
    inner_angle = float(np.arctan2(np.sin(outer_angle), x - shift))
    outer = _arc(0.0, 1.0, outer_angle, 2 * np.pi - outer_angle)
    inner = _arc(shift, radius, 2 * np.pi - inner_angle, inner_angle)
    return Outline(np.concatenate([outer, inner]))


def _arrow(rng: np.random.Generator) -> Outline:
    shaft, wing, neck = rng.uniform(0.16, 0.24), rng.uniform(0.55, 0.7), rng.uniform(-0.05, 0.15)
    upper = np.array([[-0.95, -shaft], [neck, -shaft], [neck, -wing], [1.0, 0.0]])
    lower = upper[:3][::-1] * [1, -1]
    return Outline(np.concatenate([upper, lower]))


_OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "hexagon": _hexagon,
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "ring": _ring,
    "crescent": _crescent,
    "arrow": _arrow,
}

#: The class list of `shapes-detect`. The order is part of the shipped weights: never sort it, only append.
SHAPES: tuple[str, ...] = tuple(_OUTLINES)


def outline(rng: np.random.Generator, shape: str) -> Outline:
    """One variant of the named shape (a thinner ring, a longer arrow). Raises KeyError for a name not in `SHAPES`."""
    return _OUTLINES[shape](rng)


def place(outline: Outline, radius: float, angle: float, centre: tuple[float, float]) -> Outline:
    """The outline in pixels: scaled by `radius`, turned by `angle` radians, moved to `centre` (x, y)."""
    turn = radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    hole = None if outline.hole is None else outline.hole @ turn + centre
    return Outline(outline.outer @ turn + centre, hole)


def rasterise(outline: Outline) -> Mask:
    """Coverage of an outline given in pixels, from 4 x 4 samples in each pixel."""
    low = np.floor(outline.outer.min(axis=0)).astype(int) - 1
    high = np.ceil(outline.outer.max(axis=0)).astype(int) + 1
    width, height = (int(n) for n in high - low)
    canvas = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), 0)
    pen = ImageDraw.Draw(canvas)
    # ImageDraw puts integer coordinates at sample centres, hence the half sample.
    for points, value in ((outline.outer, 255), (outline.hole, 0)):
        if points is not None:
            pen.polygon([(x, y) for x, y in (points - low) * _SUPERSAMPLING - 0.5], fill=value)
    alpha = canvas.resize((width, height), Image.Resampling.BOX)
    return Mask(np.asarray(alpha, np.uint8), int(low[0]), int(low[1]))
