"""Base64 as a text in JSON brings it, decoded with the vector units of the processor."""

from __future__ import annotations

import re

import pybase64

from server.errors import RequestFailedError

_DATA_URL = re.compile(r"data:image/(?:jpeg|jpg|png|webp|bmp|gif);base64,")


def base64_in(data_url: str) -> str:
    """The base64 of a ``data:`` URL of an image, unread: the type it names is as little believed as a content type.

    Raises RequestFailedError ``invalid_image_url`` for any other beginning.
    """
    beginning = _DATA_URL.match(data_url)
    if beginning is None:
        raise RequestFailedError("invalid_image_url")
    return data_url[beginning.end() :]


def decode_base64(text: str, max_bytes: int) -> bytes:
    """Strict base64: the standard alphabet, padded, nothing in between.

    Raises RequestFailedError ``body_too_large``, ``invalid_base64`` or ``empty_body``.
    """
    if len(text) // 4 * 3 - 2 > max_bytes:
        raise RequestFailedError("body_too_large")
    try:
        encoded = pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; so is what it says of text that is not ASCII
        raise RequestFailedError("invalid_base64") from None
    if not encoded:
        raise RequestFailedError("empty_body")
    return encoded
