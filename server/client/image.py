"""What may be given as a picture, and what of it is sent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Protocol

KINDS = (
    (b"\xff\xd8", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
    (b"GIF8", "image/gif"),
)
UNKNOWN = "image/unknown"
"""The engine looks at the bytes itself and says what it thinks of them."""
ADDRESSES = ("http://", "https://", "data:")
_SAVED_AS_IT_IS = ("1", "L", "LA", "P", "RGB", "RGBA")


class Saves(Protocol):
    """As Pillow's images do."""

    mode: str

    def save(self, fp: Any, format: str) -> None: ...  # noqa: A002 - Pillow's name for it

    def convert(self, mode: str) -> Any: ...


ImageLike = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | Saves
"""An encoded image's bytes, a path, an open file, an address (`http:`, `https:` or `data:`), an image of Pillow."""


def load_image(image: ImageLike) -> bytes | str:
    """An encoded image's bytes, or the address that the engine is to fetch. Raises OSError for a file that cannot
    be read, TypeError for anything else than ImageLike."""
    match image:
        case bytes():
            return image
        case bytearray() | memoryview():
            return bytes(image)
        case str() if image.lower().startswith(ADDRESSES):
            return image
        case str() | os.PathLike():
            return Path(image).read_bytes()
    if callable(getattr(image, "read", None)):
        content = image.read()  # type: ignore[union-attr]
        if not isinstance(content, bytes):
            raise TypeError("the file must be opened for bytes (mode 'rb')")
        return content
    if callable(getattr(image, "save", None)) and isinstance(getattr(image, "mode", None), str):
        return _as_png(image)  # type: ignore[arg-type]
    raise TypeError(
        f"{type(image).__name__} is no image: give bytes, a path, a file, an address or an image of Pillow "
        "(of a NumPy array: PIL.Image.fromarray(array))"
    )


def _as_png(image: Saves) -> bytes:
    """Without loss."""
    target = io.BytesIO()
    (image if image.mode in _SAVED_AS_IT_IS else image.convert("RGB")).save(target, format="PNG")
    return target.getvalue()


def content_type(encoded: bytes) -> str:
    """What an image's first bytes say."""
    return next((kind for start, kind in KINDS if encoded.startswith(start)), UNKNOWN)
