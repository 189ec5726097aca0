"""Images are decoded by processes that may do nothing else. Front process.

    front                                        │ decoder, one image at a time, no rights
    header says: format, size ──▶ refuse         │
    encoded bytes ──▶ slot of the decoders' slab │ ──▶ decode, resize ──▶ pixels into the same slot
    slot of the model's slab ◀── copy ───────────│◀── width, height

    encoded bytes, answer's JSON ──▶ slot ───────│ ──▶ decode, draw, encode ──▶ encoded picture into the same slot
    reply ◀── copy ──────────────────────────────│◀── its length

A decoder has no access to a model's slab and the front never interprets more than a header. What breaks a decoder costs
the image that did it a 422, after the pool's usual second look; the others in the queue go to the next decoder.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from models.spec import Resize
from pool import (
    DeadlineExceededError,
    EntryFailedError,
    Launcher,
    Limits,
    Placement,
    Pool,
    PoolError,
    PoolStoppedError,
    QueueFullError,
)
from pool.model import Pixels
from pool.replica import Replica
from server.base64_text import decode_base64
from server.decode import PIXELS_PER_THREAD, Decoded, Decoder, ImageLimits, image_key
from server.decode_header import declared_size
from server.decode_turns import Turns
from server.decoder_sandbox import describe
from server.decoder_slot import (
    KEPT_BYTES,
    MAX_OUTPUT_BYTES,
    DrawOrder,
    Order,
    decode_length,
    decode_size,
    slot_size,
)
from server.errors import RequestFailedError
from server.sketch import MAX_ANSWER_BYTES, PictureKind, Sketch

log = logging.getLogger(__name__)

T = TypeVar("T")

PRELOAD = "server.decoder_worker"
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""No threads before the fork."""
TIMEOUT = 4.0
"""Seconds for an image, and twice that for its second try: ten times what the largest takes."""
DRAWING_PATIENCE = 5.0
"""Times TIMEOUT for a picture that is drawn: four times what the largest takes as PNG, with masks and grain, on a busy
machine."""
START_TIMEOUT = 60.0
FIRST_WAIT = 600.0
"""Seconds after which it is said that no decoder ever came; they go on trying."""
NO_DEADLINE = 86_400.0
_LONG = 2**20
"""Bytes of an image, or of base64, that are better copied in a thread."""
_DRAWING = "draw"
"""The batch key of what is drawn."""
_SIGNATURES: Mapping[PictureKind, bytes] = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n"}
_CODES = {
    "image_undecodable",
    "image_too_large",
    "unsupported_image_format",
    "image_unprocessable",
    "picture_too_large",
}
"""What a decoder may say of an image."""
_UNLIMITED = 1_000_000


def pool_limits(num_decoders: int, timeout: float = TIMEOUT) -> Limits:
    """Of a pool of so many decoders. Slots: two for each, one at work and one being filled or emptied; and one more,
    which a caller who left has not given back yet."""
    return Limits(
        max_batch_size=1,
        max_queue_size=2 * num_decoders,
        num_extra_slots=0,
        start_timeout=START_TIMEOUT,
        batch_timeout=2 * timeout,
        first_batch_timeout=timeout,
        min_batch_timeout=timeout,
        max_result_bytes=1024,
        max_load_failures=_UNLIMITED,
        kept_slot_bytes=KEPT_BYTES,
        writes_slots=True,
        is_proven_by_load=True,
        patience={_DRAWING: DRAWING_PATIENCE},
    )


class DecoderPool:
    """The processes that decode, and the limits they keep."""

    def __init__(
        self,
        num_decoders: int,
        limits: ImageLimits,
        scaling: bool = False,
        timeout: float = TIMEOUT,
        factory: str = f"{PRELOAD}:load",
    ) -> None:
        """`scaling` as for `Decoder`; `timeout` in seconds for one image. `factory` replaces the decoder, for tests."""
        self.limits = limits
        self._threads = Decoder(num_decoders, limits)
        self._preload = factory.partition(":")[0]
        self._launcher = Launcher([self._preload], _ENVIRONMENT)
        bounds = pool_limits(num_decoders, timeout)
        self._turns = Turns(2 * num_decoders)
        self._pixels = Turns(num_decoders * PIXELS_PER_THREAD)
        self._drawings = Turns(max(num_decoders - 1, 1))
        """One decoder is left to those who only decode, where there is more than one."""
        placements = [Placement()] * num_decoders
        num_slots = num_decoders + bounds.max_queue_size + 1
        config = {
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
            "max_side": limits.max_side,
            "scaling": scaling,
            "slab_bytes": num_slots * slot_size(limits.max_bytes) + 2**20,
        }
        self._pool = Pool("decode", factory, config, placements, self._launcher, bounds)
        self._opening: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Decoders have come, and come again when they end."""
        return self._pool.spec is not None and self._pool.state in ("ready", "loading")

    @property
    def is_idle(self) -> bool:
        """No image is being decoded or waits."""
        turns = (self._turns, self._pixels, self._drawings)
        return self._pool.is_idle and all(each.is_idle for each in turns)

    @property
    def replicas(self) -> Sequence[Replica]:
        """The decoders."""
        return self._pool.replicas

    def forkservers(self) -> Mapping[tuple[str, ...], int]:
        """Process ids of those that run, by what they import."""
        pid = self._launcher.pid
        return {} if pid is None else {(self._preload,): pid}

    def start(self) -> None:
        """In the event loop; returns at once. Images that come earlier than it is ready wait."""
        self._opening = asyncio.create_task(self._open(), name="decode-open")

    async def _open(self) -> None:
        await self._pool.start()
        try:
            await self._pool.wait_ready(time.monotonic() + FIRST_WAIT)
        except PoolStoppedError:
            return
        except PoolError as error:
            log.error("images cannot be decoded: %s", error)
            return
        assert self._pool.spec is not None
        log.info("decoders are ready; given up: %s", describe(self._pool.spec["sandbox"]))

    async def stop(self) -> None:
        """End every thread and process."""
        await self._pool.stop()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        self._launcher.close()
        self._threads.close()

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run `function` in a thread of the front."""
        return await self._threads.run(function, *arguments)

    async def decode_into(
        self,
        slot: Pixels,
        encoded: bytes | str,
        resize: Resize,
        wants_key: bool = False,
        deadline: float | None = None,
    ) -> Decoded:
        """Decode `encoded` (bytes, or base64 text) and write it into `slot`, uint8 RGB of (height, width, 3).

        Raises RequestFailedError. Nobody but the caller's own task and a thread that is waited for writes to the slot.
        """
        if isinstance(encoded, str):
            encoded = await self._to_bytes(encoded)
        num_pixels = self._check(encoded)
        deadline = time.monotonic() + NO_DEADLINE if deadline is None else deadline
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                async with self._pixels.hold(num_pixels), self._turns.hold(1):
                    width, height = await self._decode(slot, encoded, resize, deadline)
        except TimeoutError:
            raise RequestFailedError("deadline_exceeded") from None
        except PoolError as error:
            raise _refusal(error) from None
        key = await self.run(image_key, slot, resize) if wants_key else None
        return Decoded(width, height, key)

    async def draw(self, encoded: bytes | str, sketch: Sketch, deadline: float) -> bytes:
        """The picture of `encoded` (bytes, or base64 text) with `sketch` on it, encoded, until `deadline`, a
        `time.monotonic` moment. Raises RequestFailedError."""
        if len(sketch.answer) > MAX_ANSWER_BYTES:
            raise RequestFailedError("picture_too_large")
        if isinstance(encoded, str):
            encoded = await self._to_bytes(encoded)
        num_pixels = self._check(encoded)
        try:
            async with (
                asyncio.timeout(deadline - time.monotonic()),
                self._drawings.hold(1),
                self._pixels.hold(num_pixels),
                self._turns.hold(1),
            ):
                return await self._draw(encoded, sketch, deadline)
        except TimeoutError:
            raise RequestFailedError("deadline_exceeded") from None
        except PoolError as error:
            raise _refusal(error) from None

    async def _draw(self, encoded: bytes, sketch: Sketch, deadline: float) -> bytes:
        """Raises PoolError and RequestFailedError."""
        order = DrawOrder.of(sketch, len(encoded))
        with await self._pool.lease(deadline) as lease:
            lease.reserve(order.end)
            lease.content = lease.pixels[order.start : order.end]
            await self.run(_write, lease.content, encoded + sketch.answer)
            result = await self._pool.infer(lease, order.to_params(), deadline, _DRAWING)
            try:
                length = decode_length(result.payload, order.max_bytes)
            except ValueError as error:
                log.error("a decoder answers nonsense: %s", error)
                raise RequestFailedError("image_unprocessable") from None
            picture = await self.run(lease.pixels[:length].tobytes)
        if not picture.startswith(_SIGNATURES[sketch.kind]):
            log.error("a decoder drew something that is no %s", sketch.kind)
            raise RequestFailedError("image_unprocessable")
        return picture

    async def _to_bytes(self, text: str) -> bytes:
        if len(text) < _LONG:
            return decode_base64(text, self.limits.max_bytes)
        return await self.run(decode_base64, text, self.limits.max_bytes)

    def _check(self, encoded: bytes) -> int:
        """Pixels to be reckoned with. Raises RequestFailedError for what is refused without a decoder."""
        size = declared_size(encoded)
        if size is None:
            return self.limits.max_pixels
        self.limits.check(*size)
        return size[0] * size[1]

    async def _decode(self, slot: Pixels, encoded: bytes, resize: Resize, deadline: float) -> tuple[int, int]:
        """Width and height. Raises PoolError and RequestFailedError."""
        height, width, channels = slot.shape
        order = Order((height, width, channels), resize, len(encoded))
        if order.output_size > MAX_OUTPUT_BYTES:
            raise RuntimeError(f"an input of {order.shape} is larger than a decoder's slot")
        with await self._pool.lease(deadline) as lease:
            lease.reserve(order.end)
            lease.content = lease.pixels[order.start : order.end]
            if len(encoded) < _LONG:
                _write(lease.content, encoded)
            else:
                await self.run(_write, lease.content, encoded)
            result = await self._pool.infer(lease, order.to_params(), deadline)
            size = self._read_size(result.payload)
            slot[:] = lease.pixels[: order.output_size].reshape(order.shape)
        return size

    def _read_size(self, payload: bytes) -> tuple[int, int]:
        try:
            width, height = decode_size(payload)
        except ValueError as error:
            log.error("a decoder answers nonsense: %s", error)
            raise RequestFailedError("image_unprocessable") from None
        self.limits.check(width, height)
        return width, height


def _write(memory: Pixels, encoded: bytes) -> None:
    memory[:] = np.frombuffer(encoded, np.uint8)


def _refusal(error: PoolError) -> RequestFailedError:
    """What the client is told."""
    match error:
        case EntryFailedError(code=code) if code in _CODES:
            return RequestFailedError(code)
        case EntryFailedError():
            log.error("a decoder failed: %s", error.reason)
            return RequestFailedError("image_unprocessable")
        # there is a slot for every turn: the queue is full only for who has less time left than those before it need
        case DeadlineExceededError() | QueueFullError():
            return RequestFailedError("deadline_exceeded")
        case PoolStoppedError():
            return RequestFailedError("shutting_down")
        case _:
            log.error("images cannot be decoded: %s", error)
            return RequestFailedError("decoder_unavailable")
