"""What every runtime of BLIP has in common. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.answers import Pixels
from models.runtimes.runtime import Array

Numbers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
LookedAt: TypeAlias = tuple[Array, ...]
"""What a decoder looks at while it writes."""
Past: TypeAlias = tuple[Array, Array]
"""Keys and values of the tokens that a decoder read: float32 of (layers, rows, heads, tokens, width of a head)."""

HIDDEN = -1e9
"""What is added to the score of a token that must not be looked at. Finite in every precision, so that a row of
nothing else has no NaN."""


class BlipRuntime(Protocol):
    """BLIP's networks, ready to run. `name` (torch, openvino) and `precision` (fp32, bf16, int8) are what operators
    read. What is between the calls stays where the networks are."""

    name: str
    precision: str

    def see(self, pixels: Sequence[Pixels]) -> list[Array]:
        """Encode images, each uint8 RGB of (height, width, 3), to float32 of (patches, width). Each has memory of its
        own."""
        ...

    def look_at(self, images: Sequence[Array]) -> LookedAt:
        """What a captioner's decoder looks at; as many consecutive rows for each image."""
        ...

    def read(self, ids: Numbers, mask: Floats, images: Sequence[Array]) -> LookedAt:
        """What an answerer's decoder looks at: questions of (rows, tokens), read beside their images. The mask is 1
        for a token, 0 for padding. Images are one for all rows, or one for each."""
        ...

    def step(
        self, ids: Numbers, positions: Numbers, bias: Floats, past: Past | None, looked_at: LookedAt
    ) -> tuple[Floats, Past]:
        """Scores of the next token, (rows, words), after `ids` of (rows, tokens) at `positions` of the same shape.

        `bias` of (rows, 1, tokens, all tokens) is 0, or HIDDEN where a token does not see another one. `past` is None
        for the first step."""
        ...

    def reordered(self, past: Past, rows: Numbers) -> Past:
        """What was kept of `rows`, in that order; a row may be there more than once."""
        ...
