"""What can go wrong with a download, and trying again what passes by itself. In a worker or on the command line."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_TRIES = 3
"""Tries in a row that bring no new byte."""
FIRST_PAUSE = 1.0
MAX_PAUSE = 20.0
"""Seconds. A host that wants to be left alone for longer is not waited for: somebody waits for the model."""
PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_STORAGE_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
    }
)


class DownloadError(Exception):
    """The weights could not be fetched; the message says why. What arrived is kept where it can be resumed."""


class InterruptedDownloadError(DownloadError):
    """The same, for a reason that may have passed in a moment. `retry_after`: what the host asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageError(DownloadError):
    """The disk does not take it: full, read-only, forbidden, or no folder at all."""


def persist(attempt: Callable[[], T], num_bytes: Callable[[], int]) -> T:
    """What `attempt` returns; tried again after InterruptedDownloadError, as long as bytes still come.

    `num_bytes` tells how many are there. Raises what the last try raised.
    """
    num_tries, most = 0, num_bytes()
    while True:
        try:
            return attempt()
        except InterruptedDownloadError as error:
            done = num_bytes()
            num_tries = 1 if done > most else num_tries + 1
            most = max(done, most)
            pause = FIRST_PAUSE * 2.0 ** (num_tries - 1) if error.retry_after is None else error.retry_after
            if num_tries >= MAX_TRIES or pause > MAX_PAUSE:
                raise
            log.warning("%s; trying again in %.0f s", error, pause)
            time.sleep(pause)


def answered(url: str, status: int, headers: Mapping[str, str]) -> DownloadError:
    """The error for an answer of `status`, 400 or above."""
    message = f"{url} answered {status}"
    if status not in PASSING_STATUSES:
        return DownloadError(message)
    return InterruptedDownloadError(message, _retry_after(headers.get("Retry-After", "")))


def _retry_after(value: str) -> float | None:
    """Seconds from now; the header is a number or a date."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def is_about_storage(error: BaseException) -> bool:
    """Whether an OSError tells of the disk, not of the network."""
    is_network = isinstance(error, (ConnectionError, TimeoutError))
    return isinstance(error, OSError) and error.errno in _STORAGE_ERRORS and not is_network
