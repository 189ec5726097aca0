"""From an encoded image to a slot's pixels: sniff, check, decode, turn upright, RGB, resize. Runs in threads.

Rules where decoders differ: only the first frame; EXIF orientation is applied, broken EXIF ignored; 16-bit
samples keep their upper 8 bits (and lose a transparent colour, which then cannot be told from its neighbours);
transparency is laid over white, and so is what a first frame leaves uncovered, so that what nobody can see is not
detected; colour profiles are ignored (as OpenCV and Transformers do).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from models.spec import Resize
from pool.core_budget import CoreBudget
from pool.model import Pixels
from server import bmp, gif, jpeg_parts, png, sniff, webp
from server.base64_text import decode_base64
from server.errors import RequestFailedError
from server.jpeg import decode_jpeg, read_header
from server.parts import Parts
from server.pixel_budget import PixelBudget
from server.resize import RESIZES, enough_for
from server.sketch import Sketch

PIXELS_PER_THREAD = 12_000_000
"""What may be decoded at once, times the number of threads: two photographs of a telephone on two threads, but only
one of the largest. 3 bytes each in a JPEG, twice that while it is turned upright, 8 to 22 in Pillow (most in WebP
with alpha)."""

_READERS: Mapping[str, Callable[[bytes], Parts | None]] = {
    "JPEG": jpeg_parts.read,
    "PNG": png.read,
    "GIF": gif.read,
    "BMP": bmp.read,
    "WEBP": webp.read,
}

log = logging.getLogger(__name__)

T = TypeVar("T")
Check = Callable[[int, int], None]
"""Told width and height before anything of that size is allocated; raises to refuse."""
Enough = Callable[[tuple[int, int]], tuple[int, int]]
"""From the width and height of a picture to those in which it is good enough for its slot."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is decoded at all: bytes of the encoded image, pixels in all, pixels of the longer side."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 24_000_000
    max_side: int = 16_384

    def check(self, width: int, height: int) -> None:
        """Raises RequestFailedError ``image_undecodable`` for no pixels at all, or ``image_too_large``."""
        if width < 1 or height < 1:
            raise RequestFailedError("image_undecodable")
        if max(width, height) > self.max_side or width * height > self.max_pixels:
            raise RequestFailedError("image_too_large")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What is known of an image once it is in its slot: the upright width and height in pixels, and its key."""

    width: int
    height: int
    key: str | None = None
    """Equal keys mean equal slots; None if it was not wanted."""


class Decoder:
    """The threads that decode, and the limits they keep."""

    def __init__(self, num_threads: int, limits: ImageLimits, scaling: bool = False) -> None:
        """With `scaling`, JPEGs much larger than their slot are not decoded in full, see jpeg.py."""
        self.limits = limits
        self._scaling = scaling
        self._budget = PixelBudget(num_threads * PIXELS_PER_THREAD)
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")

    is_ready = True

    def start(self) -> None:
        """Threads start with the first image."""

    def forkservers(self) -> Mapping[tuple[str, ...], int]:
        """None."""
        return {}

    async def stop(self) -> None:
        """The same as `close`."""
        self.close()

    async def decode_into(
        self,
        slot: Pixels,
        encoded: bytes | str,
        resize: Resize,
        wants_key: bool = False,
        deadline: float | None = None,
    ) -> Decoded:
        """Decode `encoded` (bytes, or base64 text) and write it into `slot`, uint8 RGB of (height, width, 3).

        A thread cannot be stopped, so there is no `deadline` here. Raises RequestFailedError. Returns or raises only
        when no thread can write to the slot any more.
        """
        return await self.run(self.decode, slot, encoded, resize, wants_key)

    def decode(self, slot: Pixels, encoded: bytes | str, resize: Resize, wants_key: bool = False) -> Decoded:
        """The same in the caller's own thread."""
        if isinstance(encoded, str):
            encoded = decode_base64(encoded, self.limits.max_bytes)
        with contextlib.ExitStack() as held:

            def admit(width: int, height: int) -> None:
                self.limits.check(width, height)
                held.close()  # what another decoder read from the same file before
                held.enter_context(self._budget.hold(width * height))

            size = self._fill(slot, encoded, resize, admit)
        return Decoded(*size, image_key(slot, resize) if wants_key else None)

    def _fill(self, slot: Pixels, encoded: bytes, resize: Resize, admit: Check) -> tuple[int, int]:
        """Its picture is gone when it returns, and only then others may have the memory."""
        enough = partial(enough_for, resize, slot.shape) if self._scaling else None
        picture, size = _decode(encoded, admit, enough)
        RESIZES[resize](picture, slot)
        return size

    async def draw(self, encoded: bytes | str, sketch: Sketch, deadline: float) -> bytes:
        """The picture of `encoded` (bytes, or base64 text) with `sketch` on it, encoded. A thread cannot be stopped: it
        is begun before `deadline`, a `time.monotonic` moment, or not at all. Raises RequestFailedError."""
        return await self.run(self._draw, encoded, sketch, deadline)

    def _draw(self, encoded: bytes | str, sketch: Sketch, deadline: float) -> bytes:
        from server.drawing import draw_and_encode  # takes a while, and the usual request does not need it

        if time.monotonic() > deadline:
            raise RequestFailedError("deadline_exceeded")
        if isinstance(encoded, str):
            encoded = decode_base64(encoded, self.limits.max_bytes)
        width, height = sketch.size
        drawn = io.BytesIO()
        with self._budget.hold(width * height):
            picture = self.decode_upright(encoded)
            try:
                draw_and_encode(picture, sketch, drawn.write)
            except RequestFailedError:
                raise
            except Exception as error:  # border: what a model says may be anything
                log.exception("an answer cannot be drawn: %s", type(error).__name__)
                raise RequestFailedError("image_unprocessable") from None
        return drawn.getvalue()

    def decode_upright(self, encoded: bytes) -> Pixels:
        """The upright first frame in full, uint8 RGB of (height, width, 3), in the caller's own thread and outside the
        budget of pixels. Raises RequestFailedError."""
        return decode(encoded, self.limits)

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run `function` in a decode thread. When cancelled, the cancellation comes out once the thread is done."""
        job = self._executor.submit(function, *arguments)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # A thread cannot be stopped: whoever gave it a slot must not give the slot to somebody else yet.
            if not job.cancel():
                await _settled(done)
            raise

    def close(self) -> None:
        """Wait for the threads to end."""
        self._executor.shutdown(cancel_futures=True)


async def _settled(future: asyncio.Future[T]) -> None:
    """Wait for `future` through any number of cancellations."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    future.exception()  # looked at, so that asyncio does not report that nobody did


def default_num_threads(cores: CoreBudget) -> int:
    """One per core, 8 at most."""
    return min(8, cores.num_cores)


def image_key(slot: Pixels, resize: Resize) -> str:
    """A name for what is in `slot`: its pixels, their shape and type, and how they got there.

    Nobody can make two pictures with one key, so whoever has the key may take an older answer for the slot. SHA-256
    and not BLAKE2b: 0.9 ms against 1.2 ms for 384 x 384 pixels on a core with SHA instructions.
    """
    digest = hashlib.sha256(f"{resize} RGB {slot.dtype} {slot.shape}".encode())
    digest.update(np.ascontiguousarray(slot).data)
    return digest.hexdigest()


def decode(encoded: bytes, limits: ImageLimits) -> Pixels:
    """The upright first frame, uint8 RGB of shape (height, width, 3).

    Raises RequestFailedError ``unsupported_image_format``, ``image_undecodable`` or ``image_too_large``.
    """
    return _decode(encoded, limits.check, None)[0]


def _decode(encoded: bytes, admit: Check, enough: Enough | None) -> tuple[Pixels, tuple[int, int]]:
    """The picture, and the width and height that it has in full; `admit` is called before it is allocated."""
    name = sniff.image_format(encoded)
    if name is None:
        is_known = sniff.is_other_format(encoded)
        raise RequestFailedError("unsupported_image_format" if is_known else "image_undecodable")
    if name == "JPEG":
        header = read_header(encoded)
        if header is not None:
            admit(header.width, header.height)
            _check_jpeg(encoded, header.width * header.height, header.has_one_scan)
            size = header.upright_size
            picture = decode_jpeg(encoded, header, enough and enough(size))
            if picture is not None:
                return picture, size
    picture = _decode_parts(encoded, name, admit)
    return picture, (picture.shape[1], picture.shape[0])


def _check_jpeg(encoded: bytes, num_pixels: int, has_one_scan: bool) -> None:
    max_scans = min(sniff.MAX_JPEG_SCANS, max(sniff.MAX_SCANNED_PIXELS // num_pixels, 1))
    is_a_lie = len(encoded) < num_pixels // jpeg_parts.MAX_PIXELS_PER_BYTE
    if is_a_lie or (not has_one_scan and sniff.num_jpeg_scans(encoded, max_scans + 1) > max_scans):
        raise RequestFailedError("image_undecodable")


def _decode_parts(encoded: bytes, name: str, admit: Check) -> Pixels:
    """By Pillow, which is given nothing but what the first frame needs."""
    parts = _READERS[name](encoded)
    if parts is None:
        raise RequestFailedError("image_undecodable")
    admit(parts.width, parts.height)
    if len(encoded) < parts.min_bytes:
        raise RequestFailedError("image_undecodable")
    if name == "JPEG":
        _check_jpeg(encoded, parts.width * parts.height, has_one_scan=False)

    def check_frame(width: int, height: int) -> None:
        if not (0 < width <= parts.width and 0 < height <= parts.height):
            raise RequestFailedError("image_undecodable")

    from server.pillow import decode_with_pillow  # takes a while, and the usual picture does not need it

    picture = decode_with_pillow(parts.content, name, check_frame)
    if parts.frame_at is None or picture.shape[:2] == (parts.height, parts.width):
        return picture
    (left, top), (height, width) = parts.frame_at, picture.shape[:2]
    canvas = np.full((parts.height, parts.width, 3), 255, np.uint8)
    canvas[top : top + height, left : left + width] = picture
    return canvas
