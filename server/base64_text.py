"""Base64 as a text in JSON brings it, decoded with the vector units of the processor."""

from __future__ import annotations

import re

import pybase64

from server.errors import RequestFailedError

_DATA_URL = re.compile(r"data:image/(?:jpeg|jpg|png|webp|bmp|gif);base64,")
"""What browsers put in front; which of the formats it names is not looked at."""


def is_data_url(address: str) -> bool:
    """Whether `decode_base64` takes `address`, as far as its beginning says."""
    return _DATA_URL.match(address) is not None


def decode_base64(text: str, max_bytes: int) -> bytes:
    """Strict base64: the standard alphabet, padded, nothing in between; perhaps as a ``data:image/...`` address.

    Raises RequestFailedError ``body_too_large``, ``invalid_base64`` or ``empty_body``.
    """
    if prefix := _DATA_URL.match(text):
        text = text[prefix.end() :]
    if len(text) // 4 * 3 - 2 > max_bytes:
        raise RequestFailedError("body_too_large")
    try:
        encoded = pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one; so is what it says of text that is not ASCII
        raise RequestFailedError("invalid_base64") from None
    if not encoded:
        raise RequestFailedError("empty_body")
    return encoded
