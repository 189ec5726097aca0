"""Addresses as they may be shown: without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_CREDENTIALS = re.compile(r"((?<!\S)(?:\w+://)?|//)\S*@")
"""Up to the last @: passwords hold what they should not, and proxies are named without a scheme too."""


def without_secrets(text: str) -> str:
    """`text` with user and password of every address in it replaced."""
    return _CREDENTIALS.sub(r"\1***@", text)


def host_of(url: str) -> str:
    """Host and port of an address, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
