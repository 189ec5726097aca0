"""What Pillow decodes: every format but JPEG, and of JPEG what jpeg.py leaves to it. Imported with the first need,
or when the server starts, because it takes a while."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, TiffImagePlugin, WebPImagePlugin

from pool.model import Pixels
from server.errors import RequestFailedError

Image.MAX_IMAGE_PIXELS = None  # a warning at best; our own limits are checked before anything is allocated
# Pillow imports a decoder with the first picture of its kind, which would cost that request half a second.
Image.preinit()
_PRELOADED = (TiffImagePlugin, WebPImagePlugin)  # the first one reads EXIF
# Of broken EXIF it has as much to say as there are tags; the log is not for strangers to fill.
warnings.filterwarnings("ignore", module=r"PIL\.")
_ORIENTATION_TAG = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_with_pillow(encoded: bytes, name: str, check_size: Callable[[int, int], None]) -> Pixels:
    """The upright first frame, uint8 RGB of shape (height, width, 3); `name` is Pillow's of the format.

    `check_size` is given width and height before anything is allocated and raises to refuse them. Raises
    RequestFailedError ``image_undecodable``.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=[name]) as image:
            check_size(*image.size)
            image.load()
            return _to_rgb(_turn_upright(image))
    except RequestFailedError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises a dozen kinds for damage, and more with every release
        raise RequestFailedError("image_undecodable") from None


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        method = _TRANSPOSES.get(orientation)
    except Exception:  # noqa: BLE001 - broken EXIF says nothing about the pixels
        return image
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode == "I;16":  # grey; Pillow's own conversion would clip it to 255
        samples = np.asarray(image)
        grey = (samples >> 8).astype(np.uint8)
        if (key := image.info.get("transparency")) is not None:
            grey[samples == key] = 255
        return np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image if image.mode == "RGBA" and "transparency" not in image.info else image.convert("RGBA")
        canvas = Image.new("RGB", image.size, (255, 255, 255))
        canvas.paste(image, mask=image)
        return np.asarray(canvas)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
