"""Backgrounds of the demo scenes: plain and busy ones, none with an edge that looks like one of the shapes."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Picture = NDArray[np.float32]  # (height, width, 3), levels 0 to 255


def _tone(rng: np.random.Generator) -> NDArray[np.float32]:
    # Mostly muted: most saturated colours belong to the shapes, but a quarter keeps the detector honest.
    saturation = rng.uniform(0.4, 0.9) if rng.random() < 0.25 else rng.uniform(0.0, 0.4)
    rgb = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.12, 1.0))
    return np.array(rgb, np.float32) * 255


def _near(rng: np.random.Generator, tone: NDArray[np.float32], spread: float) -> NDArray[np.float32]:
    return np.clip(tone + rng.uniform(-spread, spread, 3), 0, 255).astype(np.float32)


def _blend(weight: NDArray[np.float32], one: NDArray[np.float32], two: NDArray[np.float32]) -> Picture:
    return one + weight[..., None] * (two - one)


def _grid(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x, y


def _ramp(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    x, y = _grid(width, height)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * x + np.sin(angle) * y
    return np.asarray((ramp - ramp.min()) / (ramp.max() - ramp.min()), np.float32)


def _flat(rng: np.random.Generator, width: int, height: int) -> Picture:
    return np.broadcast_to(_tone(rng), (height, width, 3)).astype(np.float32)


def _gradient(rng: np.random.Generator, width: int, height: int) -> Picture:
    one = _tone(rng)
    return _blend(_ramp(rng, width, height), one, _near(rng, one, 90))


def _stripes(rng: np.random.Generator, width: int, height: int) -> Picture:
    one = _tone(rng)
    waves = np.sin(_ramp(rng, width, height) * 2 * np.pi * rng.uniform(4, 24))
    sharpness = rng.choice([1.0, 8.0])
    return _blend((np.clip(waves * sharpness, -1, 1) / 2 + 0.5).astype(np.float32), one, _near(rng, one, 55))


def _noise(rng: np.random.Generator, width: int, height: int) -> Picture:
    grain = rng.normal(0, rng.uniform(5, 18), (height, width, int(rng.choice([1, 3]))))
    return np.clip(_flat(rng, width, height) + grain, 0, 255).astype(np.float32)


def _blobs(rng: np.random.Generator, width: int, height: int) -> Picture:
    # A few random colours spread by a bicubic enlargement: soft, without a single edge.
    one = _tone(rng)
    cells = np.stack([_near(rng, one, 70) for _ in range(30)]).reshape(5, 6, 3)
    soft = Image.fromarray(cells.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(soft, np.float32)


def _weave(rng: np.random.Generator, width: int, height: int) -> Picture:
    one = _tone(rng)
    pattern = sum(np.sin(_ramp(rng, width, height) * 2 * np.pi * rng.uniform(8, 60)) for _ in range(3))
    return _blend(np.asarray(pattern, np.float32) / np.float32(6) + np.float32(0.5), one, _near(rng, one, 50))


def _scratches(rng: np.random.Generator, width: int, height: int) -> Picture:
    one = _tone(rng)
    red, green, blue = (int(v) for v in one)
    canvas = Image.new("RGB", (width, height), (red, green, blue))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(6, 30))):
        red, green, blue = (int(v) for v in _near(rng, one, 60))
        ends = rng.uniform(-0.2, 1.2, 4) * [width, height, width, height]
        pen.line([float(v) for v in ends], fill=(red, green, blue), width=int(rng.integers(1, 5)))
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(0.7)), np.float32)


_BACKGROUNDS: dict[str, Callable[[np.random.Generator, int, int], Picture]] = {
    "flat": _flat,
    "gradient": _gradient,
    "stripes": _stripes,
    "noise": _noise,
    "blobs": _blobs,
    "weave": _weave,
    "scratches": _scratches,
}

BACKGROUNDS: tuple[str, ...] = tuple(_BACKGROUNDS)


def draw_background(rng: np.random.Generator, kind: str, width: int, height: int) -> NDArray[np.uint8]:
    """A background (height, width, 3) uint8 RGB of a kind from `BACKGROUNDS`. Raises KeyError for other kinds."""
    return np.clip(_BACKGROUNDS[kind](rng, width, height), 0, 255).astype(np.uint8)
