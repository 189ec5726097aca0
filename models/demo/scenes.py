"""Synthetic scenes for the demo models: coloured shapes on varied backgrounds, drawn from a seed, with exact truth.

One seed gives one scene: the same pixels, boxes and names on every run. The seed ranges below keep what is trained
on, measured on and shown apart.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.demo.backgrounds import BACKGROUNDS, draw_background
from models.demo.colours import COLOURS, RGB, colour_distance, vary_colour
from models.demo.shapes import SHAPES, Mask, outline, place, rasterise

#: First seeds of the detector's sets; each set counts up from its own and is far smaller than the gaps between them.
TRAIN_SEEDS, VAL_SEEDS, TEST_SEEDS, SAMPLE_SEEDS = 1_000_000, 2_000_000, 3_000_000, 4_000_000

SIZES: tuple[tuple[int, int], ...] = (
    (640, 480), (480, 640), (640, 360), (360, 640), (480, 480), (320, 320), (400, 300), (300, 400), (720, 480),
)  # fmt: skip

_COVERED = 128  # a pixel belongs to a shape that covers at least half of it
_MIN_CONTRAST = 110.0
_NUM_TRIES = 24


@dataclass(frozen=True)
class SceneObject:
    """One shape: `box` is x1, y1, x2, y2 in pixels, tight around its visible pixels (x2, y2 just past the last ones).

    `visible` is the share of the shape's area that is neither covered by another one nor cut off by the border.
    """

    shape: str
    colour: str
    box: tuple[int, int, int, int]
    visible: float

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, x and y in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class SceneSettings:
    """What a scene may look like. Extents are diameters of a shape's circumscribed circle over the shorter side."""

    sizes: tuple[tuple[int, int], ...] = SIZES
    min_objects: int = 1
    max_objects: int = 7
    min_extent: float = 0.15
    max_extent: float = 0.5
    min_visible: float = 0.78
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = tuple(COLOURS)
    jpeg_qualities: tuple[int, int] = (45, 95)


@dataclass(frozen=True)
class Scene:
    """A picture (height, width, 3) uint8 RGB and what is in it, in drawing order (later ones lie on top).

    `owner` (height, width) uint8 says whose pixel each is: 0 the background's, k that of `objects[k - 1]`.
    """

    seed: int
    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    owner: NDArray[np.uint8]
    background: str
    jpeg_quality: int

    def jpeg(self) -> bytes:
        """The picture as a JPEG file of the scene's own quality."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "JPEG", quality=self.jpeg_quality)
        return buffer.getvalue()


@dataclass
class _Canvas:
    pixels: NDArray[np.uint8]
    owner: NDArray[np.uint8]
    names: list[tuple[str, str]] = field(default_factory=list)
    full_areas: list[int] = field(default_factory=list)

    def visible(self, index: int) -> float:
        return int((self.owner == index + 1).sum()) / self.full_areas[index]


def _window(mask: Mask, canvas: _Canvas) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
    """Where the mask lies on the canvas, and the part of it that is inside."""
    height, width = canvas.owner.shape
    top, left = max(mask.top, 0), max(mask.left, 0)
    bottom = min(mask.top + mask.alpha.shape[0], height)
    right = min(mask.left + mask.alpha.shape[1], width)
    inside = mask.alpha[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
    return (slice(top, bottom), slice(left, right)), inside


def _random_mask(rng: np.random.Generator, shape: str, canvas: _Canvas, settings: SceneSettings) -> Mask:
    height, width = canvas.owner.shape
    low, high = np.log(settings.min_extent), np.log(settings.max_extent)
    radius = float(np.exp(rng.uniform(low, high))) * min(width, height) / 2
    # One shape in ten may reach past the border; the others keep a pixel of distance.
    margin = radius * 0.55 if rng.random() < 0.1 else min(radius + 1.5, min(width, height) / 2 - 0.5)
    centre = rng.uniform(margin, width - margin), rng.uniform(margin, height - margin)
    return rasterise(place(outline(rng, shape), radius, rng.uniform(0, 2 * np.pi), centre))


def _fits(mask: Mask, canvas: _Canvas, min_visible: float, may_overlap: bool) -> bool:
    where, alpha = _window(mask, canvas)
    covered = alpha >= _COVERED
    if covered.sum() < min_visible * (mask.alpha >= _COVERED).sum():
        return False
    below = canvas.owner[where]
    if not may_overlap:
        grown = tuple(slice(max(s.start - 3, 0), s.stop + 3) for s in where)
        return not canvas.owner[grown].any()
    for index in np.unique(below[covered]):
        if index:
            lost = int((below[covered] == index).sum()) / canvas.full_areas[index - 1]
            if canvas.visible(index - 1) - lost < min_visible:
                return False
    return True


def _pick_colour(
    rng: np.random.Generator, canvas: _Canvas, mask: Mask, colours: tuple[str, ...]
) -> tuple[str, RGB] | None:
    """A colour that stands out from what the shape covers and borders on, and from the shapes it touches."""
    where, _ = _window(mask, canvas)
    around = canvas.pixels[where][::3, ::3]
    touched = {canvas.names[i - 1][1] for i in np.unique(canvas.owner[where]) if i}
    for name in rng.permutation([c for c in colours if c not in touched]):
        shade = vary_colour(rng, str(name))
        if np.percentile(colour_distance(around, shade), 3) >= _MIN_CONTRAST:
            return str(name), shade
    return None


def _fill(rng: np.random.Generator, alpha: NDArray[np.uint8], shade: RGB) -> NDArray[np.float32]:
    """The shape's own pixels (h, w, 3): plain, shaded from side to side, or with a darker edge."""
    height, width = alpha.shape
    light = np.ones((height, width), np.float32)
    style = rng.choice(["plain", "shaded", "edged"], p=[0.4, 0.35, 0.25])
    if style == "shaded":
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.12)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        light += (strength * (np.cos(angle) * x + np.sin(angle) * y)).astype(np.float32)
    if style == "edged":
        thickness = 2 * max(1, round(min(height, width) / 40)) + 1
        inner = np.asarray(Image.fromarray(alpha).filter(ImageFilter.MinFilter(thickness)), np.float32) / 255
        light *= 1 - rng.uniform(0.15, 0.4) * (1 - inner)
    return np.clip(light[..., None] * np.array(shade, np.float32), 0, 255).astype(np.float32)


def _cast_shadow(rng: np.random.Generator, canvas: _Canvas, mask: Mask) -> None:
    reach = max(2, mask.alpha.shape[0] // 16)
    soft = Image.fromarray(np.pad(mask.alpha, 2 * reach)).filter(ImageFilter.GaussianBlur(reach / 2))
    shift_x, shift_y = (int(v) for v in rng.integers(-reach, reach + 1, 2))
    shadow = Mask(np.asarray(soft, np.uint8), mask.left - 2 * reach + shift_x, mask.top - 2 * reach + shift_y)
    where, alpha = _window(shadow, canvas)
    dark = 1 - alpha[..., None].astype(np.float32) / 255 * rng.uniform(0.15, 0.35)
    canvas.pixels[where] = (canvas.pixels[where] * dark).astype(np.uint8)


def _paint(rng: np.random.Generator, canvas: _Canvas, mask: Mask, name: tuple[str, str], shade: RGB) -> None:
    if rng.random() < 0.2:
        _cast_shadow(rng, canvas, mask)
    where, alpha = _window(mask, canvas)
    weight = alpha[..., None].astype(np.float32) / 255
    mixed = canvas.pixels[where] * (1 - weight) + _fill(rng, alpha, shade) * weight
    canvas.pixels[where] = np.round(mixed).astype(np.uint8)
    canvas.names.append(name)
    canvas.full_areas.append(int((mask.alpha >= _COVERED).sum()))
    canvas.owner[where][alpha >= _COVERED] = len(canvas.names)


def _add_object(rng: np.random.Generator, canvas: _Canvas, settings: SceneSettings) -> bool:
    shape = str(rng.choice(settings.shapes))
    may_overlap = rng.random() < 0.3
    for _ in range(_NUM_TRIES):
        mask = _random_mask(rng, shape, canvas, settings)
        if not _fits(mask, canvas, settings.min_visible, may_overlap):
            continue
        picked = _pick_colour(rng, canvas, mask, settings.colours)
        if picked is not None:
            _paint(rng, canvas, mask, (shape, picked[0]), picked[1])
            return True
    return False


def _weather(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A little of what cameras do: soft focus, grain."""
    if rng.random() < 0.2:
        soft = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
        pixels = np.asarray(soft, np.uint8)
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(1, 5), pixels.shape).astype(np.float32)
        pixels = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return pixels


def _object(canvas: _Canvas, index: int) -> SceneObject:
    owned = canvas.owner == index + 1
    xs, ys = np.flatnonzero(owned.any(axis=0)), np.flatnonzero(owned.any(axis=1))
    box = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return SceneObject(*canvas.names[index], box, round(canvas.visible(index), 4))


def draw_scene(seed: int, settings: SceneSettings | None = None) -> Scene:
    """The scene of this seed. Has between `min_objects` and `max_objects` shapes, fewer where no more found room."""
    settings = settings or SceneSettings()
    rng = np.random.default_rng(seed)
    width, height = settings.sizes[int(rng.integers(len(settings.sizes)))]
    background = str(rng.choice(BACKGROUNDS))
    pixels = draw_background(rng, background, width, height)
    canvas = _Canvas(pixels, np.zeros((height, width), np.uint8))
    for _ in range(int(rng.integers(settings.min_objects, settings.max_objects + 1))):
        _add_object(rng, canvas, settings)
    return Scene(
        seed=seed,
        image=_weather(rng, canvas.pixels),
        objects=tuple(_object(canvas, index) for index in range(len(canvas.names))),
        owner=canvas.owner,
        background=background,
        jpeg_quality=int(rng.integers(settings.jpeg_qualities[0], settings.jpeg_qualities[1] + 1)),
    )
