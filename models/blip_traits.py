"""What an adapter must know of a BLIP network besides its weights: enough to feed it and to read what it writes.

Plain data without torch, so that it can be kept beside a converted network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.spec import Task


@dataclass(frozen=True, slots=True)
class BlipTraits:
    """`image_size` is the side of its square input in pixels. `first`, `last` and `padding` are the numbers of the
    tokens that begin a text, end it, and fill it up; `max_tokens` is how many tokens a text can have.

    `layers`, `heads` and `head_width` are the shape of what the decoder keeps of a token. `cleans_up`: the tokenizer
    takes out spaces before punctuation.
    """

    task: Task
    image_size: int
    first: int
    last: int
    padding: int
    max_tokens: int
    layers: int
    heads: int
    head_width: int
    cleans_up: bool

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types, the inverse of `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BlipTraits:
        """Read what `to_json` wrote. Raises TypeError for a missing or unknown field."""
        return cls(**fields)
