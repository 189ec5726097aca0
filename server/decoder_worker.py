"""The decoder as a model of a pool: encoded bytes in its slot, pixels out, or a picture with an answer drawn on it.
Runs in a decoder process.

Everything that it will ever need is imported with this module, in the forkserver: once the sandbox is closed, nothing
can be opened any more.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import server.pillow  # noqa: F401  Pillow's decoders; the front does without them for a while
from pool.model import Answers, Pixels, Progress, Row
from server import decoder_sandbox
from server.decode import Decoder, ImageLimits
from server.decoder_slot import DrawOrder, Order, encode_length, encode_size, slot_size
from server.drawing import draw_and_encode
from server.sketch import Sketch

BYTES_PER_PIXEL = 32
"""Of address space for the largest picture: 16-bit grey takes about 30 while it becomes RGB, others less than half."""
SPARE_BYTES = 256 * 2**20
"""Of address space for everything else: the interpreter, libraries' buffers, the copy of the encoded image."""


class IsolatedDecoder:
    """Writes pixels where it read bytes, and answers with width and height."""

    def __init__(self, limits: ImageLimits, scaling: bool, sandbox: Mapping[str, str]) -> None:
        """`sandbox` is told to the front: measures, and why they were not taken."""
        self.slot_shape = (slot_size(limits.max_bytes),)
        self.spec = {"sandbox": dict(sandbox)}
        self._decoder = Decoder(1, limits, scaling)

    def attach(self, memory: Pixels) -> None:
        """The slab is the last descriptor that ever comes."""
        decoder_sandbox.forbid_descriptors()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Each row by itself: what fails is one row's error."""
        return Answers([self._answer(row) for row in rows])

    def _answer(self, row: Row) -> bytes | Exception:
        try:
            if (drawing := DrawOrder.from_params(row.params)) is not None:
                return encode_length(self.draw(row.pixels, drawing))
            return encode_size(*self.decode(row.pixels, Order.from_params(row.params)))
        except Exception as error:  # noqa: BLE001  border: whatever a stranger's bytes cause is that image's error
            return error.with_traceback(None)

    def decode(self, memory: Pixels, order: Order) -> tuple[int, int]:
        """From and into the slot's `memory`; the upright width and height. Raises RequestFailedError."""
        encoded = memory[order.start : order.end].tobytes()
        pixels = memory[: order.output_size].reshape(order.shape)
        decoded = self._decoder.decode(pixels, encoded, order.resize)
        return decoded.width, decoded.height

    def draw(self, memory: Pixels, order: DrawOrder) -> int:
        """From and into the slot's `memory`; bytes of the picture. Raises RequestFailedError, and what an answer
        causes that is none."""
        encoded = memory[order.start : order.answer_start].tobytes()
        sketch = Sketch(order.kind, memory[order.answer_start : order.end].tobytes(), order.size)
        length = 0

        def write(chunk: bytes) -> int:
            nonlocal length
            memory[length : length + len(chunk)] = np.frombuffer(chunk, np.uint8)
            length += len(chunk)
            return len(chunk)

        draw_and_encode(self._decoder.decode_upright(encoded), sketch, write)
        return length

    def check(self) -> None:
        """That pictures of each kind come out here, behind whatever the sandbox took away. Raises RuntimeError."""
        for kind in ("JPEG", "PNG", "WEBP"):
            encoded = _SAMPLES[kind]
            order = Order((16, 16, 3), "letterbox", len(encoded))
            memory = np.zeros(order.end, np.uint8)
            memory[order.start :] = np.frombuffer(encoded, np.uint8)
            if self.decode(memory, order) != (16, 8):
                raise RuntimeError(f"{kind} is not decoded as it should be")
        for drawn in ("JPEG", "PNG"):
            sketch = Sketch(drawn, b'{"answer":"yes","prompt":"?"}', (16, 8))
            drawing = DrawOrder.of(sketch, len(_SAMPLES["PNG"]))
            memory = np.zeros(drawing.end, np.uint8)
            memory[drawing.start :] = np.frombuffer(_SAMPLES["PNG"] + sketch.answer, np.uint8)
            if self.draw(memory, drawing) < 1:
                raise RuntimeError(f"no {drawn} can be drawn")


def _sample(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), (200, 100, 50)).save(buffer, kind)
    return buffer.getvalue()


_SAMPLES = {kind: _sample(kind) for kind in ("JPEG", "PNG", "WEBP")}


def load(config: Mapping[str, Any], device: str, progress: Progress) -> IsolatedDecoder:
    """The factory."""
    return make(config, IsolatedDecoder)


def make(config: Mapping[str, Any], kind: type[IsolatedDecoder]) -> IsolatedDecoder:
    """A decoder in its sandbox, which has shown that it works. `config` has `max_bytes`, `max_pixels`, `max_side`,
    `scaling` and `slab_bytes`, of address space. Raises what a decoder raises that cannot work."""
    limits = ImageLimits(config["max_bytes"], config["max_pixels"], config["max_side"])
    space = config["slab_bytes"] + BYTES_PER_PIXEL * limits.max_pixels + 2 * limits.max_bytes + SPARE_BYTES
    decoder = kind(limits, config["scaling"], decoder_sandbox.enter(space))
    decoder.check()
    return decoder
