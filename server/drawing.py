"""An answer, drawn on the picture it was made for, and the encoded result. In a decoder's process or thread.

Pillow draws lines and letters, mask_layer.py masks. Takes at most some 12 bytes of memory for each pixel of the
picture, which itself is 3 of them (bench/drawing.py: 9), and what the encoded result takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, cast

import numpy as np
import orjson
from PIL import Image, ImageDraw, JpegImagePlugin, PngImagePlugin

from pool.model import Pixels
from server.errors import RequestFailedError
from server.labels import Labels, Place
from server.lettering import font_of
from server.mask_layer import draw_masks
from server.palette import BLACK, WHITE, Colour, colour_of
from server.sketch import PictureKind, Sketch
from server.text_band import texts_of, with_band

_PLUGINS = (JpegImagePlugin, PngImagePlugin)  # else imported with the first picture that is encoded
MIN_KEYPOINT_CONFIDENCE = 0.25
"""Of a keypoint that is drawn."""
_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Of COCO's 17 keypoints."""
_FAR = 2**15
_OPTIONS: Mapping[PictureKind, Mapping[str, Any]] = {
    "JPEG": {"quality": 90, "subsampling": 0},  # thin coloured lines blur with colours at half the size
    "PNG": {"compress_level": 1},
}

Write = Callable[[bytes], int]


def line_width_of(width: int, height: int) -> int:
    """Pixels of a line that is seen in a picture of this size as in any other."""
    return max(round(math.sqrt(width * height) * 0.0035), 1)


def font_size_of(width: int, height: int) -> int:
    """Pixels of letters that can be read."""
    return max(round(math.sqrt(width * height) * 0.026), 10)


def draw(picture: Pixels, answer: Mapping[str, Any]) -> Image.Image:
    """`answer`, the members of a reply, drawn on the upright `picture`, uint8 RGB of (height, width, 3).

    The result is as large; larger if words stand below. Raises ValueError, KeyError or TypeError for an answer that is
    none to this picture.
    """
    height, width = picture.shape[:2]
    line_width, font_size = line_width_of(width, height), font_size_of(width, height)
    predictions = answer.get("predictions") or []
    if any(each.get("mask") or each.get("polygon") for each in predictions):
        picture = np.array(picture)  # it may belong to Pillow
        draw_masks(picture, predictions, line_width)
    image = Image.fromarray(picture)
    del picture
    brush = ImageDraw.Draw(image)
    for each in reversed(predictions):
        _draw_shape(brush, each, line_width)
    labels = Labels(brush, image.size, font_of(font_size))
    for each in predictions:
        text = f"{each['label']} {each['confidence']:.2f}"
        labels.add(text, _place(each["box"]), colour_of(each["class_id"]))
    texts = texts_of(answer)
    return with_band(image, texts, font_size) if texts else image


def encode(image: Image.Image, kind: PictureKind, write: Write) -> None:
    """As a file, piece by piece."""
    image.save(cast("IO[bytes]", _Sink(write)), kind, **_OPTIONS[kind])


def draw_and_encode(picture: Pixels, sketch: Sketch, write: Write) -> None:
    """The file, given to `write`. Raises RequestFailedError ``picture_too_large`` and what `draw` raises."""
    num_bytes = 0

    def write_within(chunk: bytes) -> int:
        nonlocal num_bytes
        num_bytes += len(chunk)
        if num_bytes > sketch.max_bytes:
            raise RequestFailedError("picture_too_large")
        return write(chunk)

    if (picture.shape[1], picture.shape[0]) != sketch.size:
        raise ValueError("an answer to another picture")
    image = draw(picture, orjson.loads(sketch.answer))
    del picture
    encode(image, sketch.kind, write_within)


class _Sink:
    """As much of a file as Pillow needs to write one."""

    def __init__(self, write: Write) -> None:
        self.write = write

    def flush(self) -> None:
        """Nothing is held back."""


def _draw_shape(brush: ImageDraw.ImageDraw, each: Mapping[str, Any], line_width: int) -> None:
    colour = colour_of(each["class_id"])
    if each.get("corners"):
        _draw_ring(brush, [_point(*corner) for corner in each["corners"]], colour, line_width)
    else:
        left, top, right, bottom = _place(each["box"])
        brush.rectangle((left, top, right, bottom), outline=colour, width=line_width)
    if each.get("keypoints"):
        _draw_keypoints(brush, each["keypoints"], colour, line_width)


def _draw_ring(
    brush: ImageDraw.ImageDraw, points: Sequence[tuple[int, int]], colour: Colour, line_width: int
) -> None:
    brush.line([*points, points[0], points[1]], fill=colour, width=line_width, joint="curve")


def _draw_keypoints(
    brush: ImageDraw.ImageDraw, keypoints: Sequence[Mapping[str, float]], colour: Colour, line_width: int
) -> None:
    seen = [each.get("confidence", 1.0) >= MIN_KEYPOINT_CONFIDENCE for each in keypoints]
    points = [_point(each["x"], each["y"]) for each in keypoints]
    if len(points) == 17:
        for one, other in _SKELETON:
            if seen[one] and seen[other]:
                brush.line([points[one], points[other]], fill=colour, width=line_width)
    radius = line_width + 1
    for (x, y), is_seen in zip(points, seen, strict=True):
        if is_seen:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=WHITE)
            brush.point((x, y), fill=BLACK)


def _point(x: float, y: float) -> tuple[int, int]:
    """The pixel; what is far outside is not drawn anyway."""
    return max(min(math.floor(x), _FAR), -_FAR), max(min(math.floor(y), _FAR), -_FAR)


def _place(box: Mapping[str, float]) -> Place:
    """The first and last pixels of a box."""
    left, top = _point(box["x1"], box["y1"])
    right, bottom = _point(box["x2"] - 1e-3, box["y2"] - 1e-3)  # a box ends where the pixel behind it begins
    return left, top, max(right, left), max(bottom, top)
