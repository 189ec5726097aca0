"""Rows and pictures for the models' tests; the networks with random weights are the bench's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.networks import NUM_CLASSES, SIZE, Image, letterboxed, photo, save_yolo

__all__ = [
    "NUM_CLASSES",
    "SIZE",
    "Image",
    "PlainRow",
    "letterboxed",
    "photo",
    "resized",
    "row",
    "save_yolo",
    "shapes",
]


@dataclass(frozen=True)
class PlainRow:
    pixels: Image
    params: Mapping[str, Any]


def resized(image: Image, width: int, height: int) -> Image:
    import cv2

    return np.asarray(cv2.resize(image, (width, height)), dtype=np.uint8)


def row(image: Image, height: int = SIZE, width: int = SIZE, **params: Any) -> PlainRow:
    given = {"width": image.shape[1], "height": image.shape[0], **params}
    return PlainRow(letterboxed(image, height, width), given)


def shapes() -> dict[str, Image]:
    """Images of different shapes, small ones."""
    return {
        "portrait": resized(photo("bus.jpg"), 405, 540),
        "landscape": resized(photo("zidane.jpg"), 640, 360),
        "square": photo("zidane.jpg")[:700, 300:1000],
        "20x31": resized(photo("bus.jpg"), 20, 31),
    }
