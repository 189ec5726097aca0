"""The messages between the front and a worker, and how they become bytes.

Used in both processes. Control messages are small: pixels stay in the slab, only results travel. A frame is

    u32 length of what follows | u8 kind | u32 length of the JSON part | JSON | payload bytes

JSON and not pickle, so that bytes from a broken worker can never run code in the front.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

_FRAME = struct.Struct("!IBI")
_LENGTH = struct.Struct("!I")


class ProtocolError(Exception):
    """The other side sent something that is not a message. Its process is not to be trusted any more."""


class ExitCode(enum.IntEnum):
    """Why a worker ended by itself; a negative exit code is a signal instead."""

    ASKED_TO = 0
    DEVICE_FAULT = 70
    DEVICE_LOST = 71
    LOAD_FAILED = 78


@dataclass(frozen=True, slots=True)
class Ready:
    """Worker to front: the model is loaded and warm. `spec` is opaque to the pool.

    `canary` are the parameters of a row whose answer is the same every time, None if the model has none.
    `best_batch_size`: more rows at once gain nothing, 0 if they always do.
    """

    KIND: ClassVar[int] = 1
    spec: dict[str, Any]
    slot_shape: list[int]
    load_seconds: float
    canary: dict[str, Any] | None = None
    best_batch_size: int = 0


@dataclass(frozen=True, slots=True)
class Slab:
    """Front to worker: the slab's geometry. The descriptor travels beside it (SCM_RIGHTS)."""

    KIND: ClassVar[int] = 2
    num_slots: int
    slot_shape: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Front to worker: run these slots. `rows` holds [slot, nonce, params] each. `is_alone`: nothing else runs or waits
    in the pool."""

    KIND: ClassVar[int] = 3
    batch_id: int
    rows: list[list[Any]]
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """Worker to front: the answers of one batch.

    `results` holds [nonce, error or None, size in bytes] per row, in the batch's order; an error is
    [code, reason]. `payloads` are the JSON fragments, empty where there is an error. `timings` are float seconds.
    `is_shaken`: the model raised where it should not, so look at it before it is trusted with more. `max_rows`: more
    did not fit into memory, 0 if all did.
    """

    KIND: ClassVar[int] = 4
    batch_id: int
    results: list[list[Any]]
    timings: dict[str, float]
    is_shaken: bool = False
    max_rows: int = 0
    payloads: Sequence[bytes] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Fatal:
    """Worker to front, right before it exits: why it cannot go on. `permanent` means: do not try again."""

    KIND: ClassVar[int] = 5
    code: str
    reason: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Worker to front: how far loading is; the latest replaces the one before."""

    KIND: ClassVar[int] = 6
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stop:
    """Front to worker: finish what you were sent before this, then exit with `ASKED_TO`."""

    KIND: ClassVar[int] = 7


Message = Ready | Slab | Batch | Done | Fatal | Progress | Stop
_KINDS: dict[int, type[Any]] = {m.KIND: m for m in (Ready, Slab, Batch, Done, Fatal, Progress, Stop)}
_FIELDS = {kind: [f.name for f in fields(m) if f.name != "payloads"] for kind, m in _KINDS.items()}


def encode(message: Message) -> bytes:
    """One frame. Raises ValueError for what JSON cannot say (NaN, infinity)."""
    payloads: Sequence[bytes] = message.payloads if isinstance(message, Done) else ()
    body = json.dumps([getattr(message, n) for n in _FIELDS[message.KIND]], allow_nan=False).encode()
    length = _FRAME.size - _LENGTH.size + len(body) + sum(map(len, payloads))
    return b"".join((_FRAME.pack(length, message.KIND, len(body)), body, *payloads))


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(side) is int and side > 0 for side in value)


def _is_outcome(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    nonce, error, size = value
    is_error = isinstance(error, list) and len(error) == 2 and all(isinstance(word, str) for word in error)
    return type(nonce) is int and type(size) is int and size >= 0 and (error is None or is_error)


def _is_sound(message: Message) -> bool:
    """Whether what a worker says has the types it should: the front relies on them far from any `except`."""
    match message:
        case Ready(spec, slot_shape, load_seconds, canary, best_batch_size):
            return (
                isinstance(spec, dict)
                and _is_shape(slot_shape)
                and isinstance(load_seconds, int | float)
                and isinstance(canary, dict | None)
                and type(best_batch_size) is int
                and best_batch_size >= 0
            )
        case Done(batch_id, results, timings, is_shaken, max_rows):
            return (
                type(batch_id) is int
                and type(is_shaken) is bool
                and type(max_rows) is int
                and isinstance(results, list)
                and all(map(_is_outcome, results))
                and isinstance(timings, dict)
                and all(isinstance(seconds, int | float) for seconds in timings.values())
            )
        case Fatal(code, reason, permanent):
            return isinstance(code, str) and isinstance(reason, str) and isinstance(permanent, bool)
        case Progress(fields):
            return isinstance(fields, dict)
        case _:
            return True


def _decode(kind: int, body: bytes, rest: memoryview) -> Message:
    message_type = _KINDS.get(kind)
    if message_type is None:
        raise ProtocolError(f"unknown message kind {kind}")
    try:
        message: Message = message_type(*json.loads(body))
        if not _is_sound(message):
            raise ProtocolError(f"message of kind {kind} with fields of wrong types")
        if isinstance(message, Done):
            sizes = [size for _, _, size in message.results]
            if sum(sizes) != len(rest):
                raise ProtocolError("payload sizes do not add up")
            payloads, start = [], 0
            for size in sizes:
                payloads.append(bytes(rest[start : start + size]))
                start += size
            message = replace(message, payloads=payloads)
    except (ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"malformed message of kind {kind}") from error
    return message


class FrameReader:
    """Turns a stream of bytes into messages; keeps what is not complete yet."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Yield every message that `chunk` completes. Raises ProtocolError on nonsense."""
        self._buffer += chunk
        while len(self._buffer) >= _FRAME.size:
            length, kind, body_length = _FRAME.unpack_from(self._buffer)
            if not _FRAME.size - _LENGTH.size <= length <= self._max_frame_bytes:
                raise ProtocolError(f"frame of {length} bytes")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body_end = _FRAME.size + body_length
            if body_end > end:
                raise ProtocolError("JSON part longer than its frame")
            frame = memoryview(bytes(self._buffer[:end]))
            del self._buffer[:end]
            yield _decode(kind, bytes(frame[_FRAME.size : body_end]), frame[body_end:])
