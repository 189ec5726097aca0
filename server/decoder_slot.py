"""What lies where in a slot of the decoders' slab, and what the two sides say to each other about it.

    ┌──────────────────────┬──────────────────────┬───────────
    │ pixels, by the       │ encoded image, by    │ nothing
    │ decoder              │ the front            │
    └──────────────────────┴──────────────────────┴───────────
    0                      prod(shape), in pages  + num_bytes

    ┌──────────────────────┬──────────────────────┬──────────────────────┬───────────
    │ drawn and encoded,   │ encoded image, by    │ answer to be drawn,  │ nothing
    │ by the decoder       │ the front            │ by the front         │
    └──────────────────────┴──────────────────────┴──────────────────────┴───────────
    0                      max_bytes, in pages    + num_image_bytes      + num_answer_bytes

Address space is for the largest of both; memory is there for the usual, see `Limits.kept_slot_bytes`.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.spec import Resize
from server.sketch import MAX_ANSWER_BYTES as MAX_DRAWN_ANSWER_BYTES
from server.sketch import MAX_PICTURE_BYTES, PictureKind, Sketch

MAX_OUTPUT_BYTES = 3 * 4096 * 4096
"""Of the largest input that a model may have."""
KEPT_BYTES = 2 * 2**20
"""A picture of 640 x 640 and a photograph of 800 KB."""
MAX_ANSWER_BYTES = 64
"""Of a decoder: too few for brackets in brackets that the parser gives up on with an error of another kind."""


def slot_size(max_bytes: int) -> int:
    """Bytes of a slot for encoded images of at most `max_bytes`."""
    return max(MAX_OUTPUT_BYTES, MAX_PICTURE_BYTES + MAX_DRAWN_ANSWER_BYTES) + max_bytes


@dataclass(frozen=True, slots=True)
class Order:
    """An image to be decoded: its slot's shape (height, width, 3) and how it gets there; bytes of the encoded one."""

    shape: tuple[int, int, int]
    resize: Resize
    num_bytes: int

    @property
    def output_size(self) -> int:
        """Bytes of the pixels."""
        return math.prod(self.shape)

    @property
    def start(self) -> int:
        """Where the encoded image begins."""
        return -(-self.output_size // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def end(self) -> int:
        """Where it ends: bytes of the slot that are used."""
        return self.start + self.num_bytes

    def to_params(self) -> dict[str, Any]:
        """For the message."""
        return {"shape": list(self.shape), "resize": self.resize, "num_bytes": self.num_bytes}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """What `to_params` made."""
        height, width, channels = params["shape"]
        return cls((height, width, channels), params["resize"], params["num_bytes"])


@dataclass(frozen=True, slots=True)
class DrawOrder:
    """An answer to be drawn on an image: what comes out, as in `Sketch`, and bytes of what goes in."""

    kind: PictureKind
    size: tuple[int, int]
    max_bytes: int
    num_image_bytes: int
    num_answer_bytes: int

    @property
    def start(self) -> int:
        """Where the encoded image begins."""
        return -(-self.max_bytes // mmap.PAGESIZE) * mmap.PAGESIZE

    @property
    def answer_start(self) -> int:
        """Where the image ends and the answer begins."""
        return self.start + self.num_image_bytes

    @property
    def end(self) -> int:
        """Bytes of the slot that are used."""
        return self.answer_start + self.num_answer_bytes

    def to_params(self) -> dict[str, Any]:
        """For the message."""
        sizes = [*self.size, self.max_bytes, self.num_image_bytes, self.num_answer_bytes]
        return {"draw": self.kind, "sizes": sizes}

    @classmethod
    def of(cls, sketch: Sketch, num_image_bytes: int) -> Self:
        """For this sketch on an image of so many bytes."""
        return cls(sketch.kind, sketch.size, sketch.max_bytes, num_image_bytes, len(sketch.answer))

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self | None:
        """What `to_params` made; None for an order to decode."""
        if "draw" not in params:
            return None
        width, height, *sizes = params["sizes"]
        return cls(params["draw"], (width, height), *sizes)


def encode_length(num_bytes: int) -> bytes:
    """A decoder's answer to an order to draw."""
    return json.dumps(num_bytes).encode()


def decode_length(payload: bytes, max_bytes: int) -> int:
    """Bytes of the picture, from 1 to `max_bytes`. Raises ValueError for anything else."""
    if len(payload) > MAX_ANSWER_BYTES:
        raise ValueError("a decoder's answer is short")
    answer = json.loads(payload)
    if type(answer) is not int or not 1 <= answer <= max_bytes:
        raise ValueError("a decoder's answer is a number of bytes")
    return answer


def encode_size(width: int, height: int) -> bytes:
    """A decoder's answer."""
    return json.dumps([width, height]).encode()


def decode_size(payload: bytes) -> tuple[int, int]:
    """Width and height. Raises ValueError for anything else: whoever wrote it has read a stranger's bytes."""
    if len(payload) > MAX_ANSWER_BYTES:
        raise ValueError("a decoder's answer is short")
    answer = json.loads(payload)
    if not isinstance(answer, list) or [type(side) for side in answer] != [int, int]:
        raise ValueError("a decoder's answer is a width and a height")
    width, height = answer
    return width, height
