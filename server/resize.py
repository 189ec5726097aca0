"""The four ways in which a picture gets into its slot; which one a model wants stands in its spec.

Bit for bit what the libraries do themselves: Ultralytics' `LetterBox` and classify transforms, and
Transformers' BLIP image processor on Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from models.spec import Resize
from pool.model import Pixels

PADDING = 114
MAX_ASPECT_FOR_FULL_RESIZE = 4
# Pictures are decoded side by side; threads inside one would only fight the workers for cores.
cv2.setNumThreads(1)


def letterbox(picture: Pixels, slot: Pixels) -> None:
    """Keep the aspect ratio, bilinear, centred on grey. Ultralytics `LetterBox(auto=False, scaleup=True)`."""
    height, width = picture.shape[:2]
    slot_height, slot_width = slot.shape[:2]
    ratio = min(slot_height / height, slot_width / width)
    new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
    top = round((slot_height - new_height) / 2 - 0.1)
    left = round((slot_width - new_width) / 2 - 0.1)
    slot[:top] = slot[top + new_height :] = PADDING
    slot[top : top + new_height, :left] = slot[top : top + new_height, left + new_width :] = PADDING
    _resize_bilinear(picture, slot[top : top + new_height, left : left + new_width])


def stretch(picture: Pixels, slot: Pixels) -> None:
    """Bilinear to the whole slot, whatever the aspect ratio. Ultralytics `LetterBox(scale_fill=True)`."""
    _resize_bilinear(picture, slot)


def _resize_bilinear(picture: Pixels, target: Pixels) -> None:
    if picture.shape == target.shape:
        target[:] = picture
    else:
        cv2.resize(picture, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_LINEAR)


def square_bicubic(picture: Pixels, slot: Pixels) -> None:
    """Pillow's bicubic to the whole slot. Transformers `BlipImageProcessor`."""
    from PIL import Image

    slot_height, slot_width = slot.shape[:2]
    slot[:] = np.asarray(Image.fromarray(picture).resize((slot_width, slot_height), Image.Resampling.BICUBIC))


def center_crop(picture: Pixels, slot: Pixels) -> None:
    """Shortest edge to the slot's, Pillow's bilinear, then the central square. Ultralytics `classify_transforms`.

    A slot that is not square is filled by a plain resize, as there.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    slot_height, slot_width = slot.shape[:2]
    image = Image.fromarray(picture)
    if slot_height != slot_width:
        slot[:] = np.asarray(image.resize((slot_width, slot_height), Image.Resampling.BILINEAR))
        return
    size = slot_width
    new_width = size if width <= height else int(size * width / height)
    new_height = size if height <= width else int(size * height / width)
    left, top = round((new_width - size) / 2), round((new_height - size) / 2)
    if max(new_width, new_height) <= MAX_ASPECT_FOR_FULL_RESIZE * size:
        if (new_width, new_height) != (width, height):
            image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        slot[:] = np.asarray(image)[top : top + size, left : left + size]
        return
    # A sliver of 16384 x 1 would first grow to gigabytes; the crop's own part of it gives the same pixels.
    scale_x, scale_y = width / new_width, height / new_height
    box = (
        left * scale_x,
        top * scale_y,
        min((left + size) * scale_x, width),
        min((top + size) * scale_y, height),
    )
    slot[:] = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


RESIZES: Mapping[Resize, Callable[[Pixels, Pixels], None]] = {
    "letterbox": letterbox,
    "stretch": stretch,
    "center_crop": center_crop,
    "square_bicubic": square_bicubic,
}
"""``resize(picture, slot)``: both uint8 RGB of shape (height, width, 3); writes every pixel of the slot."""


def enough_for(resize: Resize, slot_shape: Sequence[int], size: tuple[int, int]) -> tuple[int, int]:
    """Width and height to which a picture of `size` may shrink beforehand, so that `resize` enlarges it no more."""
    (width, height), (slot_height, slot_width) = size, slot_shape[:2]
    ratios = slot_width / width, slot_height / height
    ratio = min(ratios) if resize == "letterbox" else max(ratios)
    return math.ceil(width * ratio), math.ceil(height * ratio)
