"""One file over HTTP, once, whole, and resumable. Runs in a worker or on the command line; no torch.

httpx is imported inside: half a second that no start without a download has to spend.

- NAME.part grows here, in the same folder, so that the last step is a rename: NAME is whole or not there
- NAME.etag says which version of the file NAME.part is the beginning of; without it a part is not resumed
- NAME.lock is held while all this goes on, so that several processes fetch it once
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from models.answers import Progress
from models.tries import (
    DownloadError,
    InterruptedDownloadError,
    StorageError,
    answered,
    is_about_storage,
    persist,
)

if TYPE_CHECKING:
    import httpx

PROGRESS_INTERVAL = 0.25
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch `url` into the file `target`. Timeouts in seconds: to connect, and between two pieces."""

    url: str
    target: Path
    connect_timeout: float = 10.0
    read_timeout: float = 60.0

    @property
    def partial(self) -> Path:
        return self._beside("part")

    @property
    def etag(self) -> Path:
        return self._beside("etag")

    @property
    def lock(self) -> Path:
        return self._beside("lock")

    def _beside(self, suffix: str) -> Path:
        return self.target.with_name(f"{self.target.name}.{suffix}")

    def discard(self) -> None:
        """Forget what arrived so far."""
        self.partial.unlink(missing_ok=True)
        self.etag.unlink(missing_ok=True)


def fetch(download: Download, progress: Progress) -> None:
    """Receive the whole body into `download.partial`. Call it with `locked`; `publish` is the next step.

    A transfer that breaks off is continued. Raises DownloadError for anything the network, the server or the disk does.
    """
    persist(lambda: _fetch_once(download, progress), lambda: _size(download.partial))


def _fetch_once(download: Download, progress: Progress) -> None:
    import httpx

    before = _size(download.partial)
    try:
        if not _receive(download, progress):
            download.discard()
            if not _receive(download, progress):
                raise DownloadError(f"{download.url} does not serve its whole file")
    except httpx.HTTPStatusError as error:
        raise answered(download.url, error.response.status_code, error.response.headers) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Who does not answer at all is not asked again here: a machine without a network should say so at once.
        cut = isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError))
        kind = InterruptedDownloadError if cut or _size(download.partial) > before else DownloadError
        raise kind(f"{download.url}: {type(error).__name__}: {error}") from error
    except OSError as error:
        kind = StorageError if is_about_storage(error) else DownloadError
        raise kind(f"cannot write {download.partial}: {error}") from error


def publish(download: Download) -> None:
    """Give the received file its name, in one step and only once it is on the disk."""
    with download.partial.open("rb") as received:
        os.fsync(received.fileno())
    download.partial.replace(download.target)
    download.etag.unlink(missing_ok=True)


@contextmanager
def locked(download: Download, progress: Progress) -> Iterator[None]:
    """Hold the download's lock; while another process has it, report how far that one is."""
    lock = filelock.FileLock(download.lock)
    while True:
        try:
            lock.acquire(timeout=PROGRESS_INTERVAL)
            break
        except filelock.Timeout:
            if (
                not download.lock.exists()
            ):  # nobody has it: it cannot be made, and the library would wait for ever
                raise StorageError(f"cannot make {download.lock}") from None
            _report(progress, _size(download.partial), None)
    try:
        yield
    finally:
        lock.release()


def _receive(download: Download, progress: Progress) -> bool:
    """One request. False: the server will not continue what is there, so start again."""
    import httpx

    offset, etag = _resumable(download)
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
    timeout = httpx.Timeout(download.read_timeout, connect=download.connect_timeout)
    with httpx.stream(
        "GET", download.url, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        _refuse_downgrade(response)
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return bool(response.headers.get("Content-Range") == f"bytes */{offset}")  # all of it is here
        response.raise_for_status()
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            start, total = _content_range(response)
            if start != offset:
                return False
        else:
            offset, total = 0, _content_length(response)
            download.discard()  # first, so that an old part is never continued as this version
            _remember_version(download, response)
        _write_body(download, response, offset, total, progress)
    return True


def _write_body(
    download: Download, response: httpx.Response, offset: int, total: int | None, progress: Progress
) -> None:
    done, reported = offset, time.monotonic()
    _report(progress, done, total)
    with download.partial.open("ab" if offset else "wb") as partial:
        for chunk in response.iter_raw(CHUNK_BYTES):
            partial.write(chunk)
            done += len(chunk)
            if time.monotonic() - reported >= PROGRESS_INTERVAL:
                reported = time.monotonic()
                _report(progress, done, total)
    if total is not None and done != total:
        raise InterruptedDownloadError(f"{download.url} sent {done} of {total} bytes")
    _report(progress, done, total)


def _resumable(download: Download) -> tuple[int, str]:
    """Bytes that are there and the version they belong to; (0, "") when there is nothing safe to continue."""
    if not download.etag.exists():
        return 0, ""
    return _size(download.partial), download.etag.read_text("ascii")


def _remember_version(download: Download, response: httpx.Response) -> None:
    etag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):  # a weak one (W/"...") does not promise equal bytes
        download.etag.write_text(etag, "ascii")


def _content_range(response: httpx.Response) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _content_length(response: httpx.Response) -> int | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError(f"{response.url} sent an encoded body although none was asked for")
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _refuse_downgrade(response: httpx.Response) -> None:
    hops = [*response.history, response]
    if hops[0].url.scheme == "https" and any(hop.url.scheme != "https" for hop in hops):
        raise DownloadError(f"{hops[0].url} redirects to an address without TLS")


def _report(progress: Progress, done_bytes: int, total_bytes: int | None) -> None:
    progress({"stage": "download", "done_bytes": done_bytes, "total_bytes": total_bytes})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
