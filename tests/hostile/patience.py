"""How long others may wait while a large body is dealt with, on a machine that is as busy as it is now."""

from __future__ import annotations

import time

from pydantic_core import from_json


def patience(num_bytes: int) -> float:
    """Seconds: ten times what it takes here to read so many bytes of escapes once, which the server must do; two at
    least. What the server is spared, brackets in brackets, took more than that on a quiet machine."""
    body = b'"' + b"\\ud83d\\ude00" * (num_bytes // 12) + b'"'
    started = time.monotonic()
    from_json(body)
    return max(2.0, 10 * (time.monotonic() - started))
