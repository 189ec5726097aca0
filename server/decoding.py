"""The two ways of decoding, and what they have in common: in threads of the front, or in processes apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol, TypeVar

from models.spec import Resize
from pool.model import Pixels
from server.decode import Decoded, Decoder, ImageLimits
from server.sketch import Sketch

T = TypeVar("T")


class ImageDecoder(Protocol):
    """What puts images into slots."""

    limits: ImageLimits

    @property
    def is_ready(self) -> bool:
        """Whether images can be decoded."""

    def start(self) -> None:
        """In the event loop; returns at once. Images that come earlier than it is ready wait."""

    async def decode_into(
        self,
        slot: Pixels,
        encoded: bytes | str,
        resize: Resize,
        wants_key: bool = False,
        deadline: float | None = None,
    ) -> Decoded:
        """Decode `encoded` (bytes, or base64 text) and write it into `slot`, uint8 RGB of (height, width, 3).

        `deadline` is a `time.monotonic` moment. Raises RequestFailedError. Returns or raises only when nobody writes to
        the slot any more.
        """

    async def draw(self, encoded: bytes | str, sketch: Sketch, deadline: float) -> bytes:
        """The picture of `encoded` (bytes, or base64 text) with `sketch` on it, encoded, until `deadline`, a
        `time.monotonic` moment. Raises RequestFailedError."""

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run `function` in a thread of the front, for work on bytes that nobody interprets."""

    def forkservers(self) -> Mapping[tuple[str, ...], int]:
        """Process ids of those that run, by what they import."""

    async def stop(self) -> None:
        """End every thread and process."""


def make_decoder(
    kind: Literal["thread", "process"], num_decoders: int, limits: ImageLimits, scaling: bool
) -> ImageDecoder:
    """As the settings say; nothing is started."""
    if kind == "thread":
        return Decoder(num_decoders, limits, scaling)
    from server.decoder_pool import DecoderPool  # who decodes in threads needs none of it

    return DecoderPool(num_decoders, limits, scaling)
