"""What goes into `infer` and what comes out, seen from the models' side. No torch.

The worker's own classes have the same attributes, so that this package does not import the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[Mapping[str, Any]], None]
"""Receives small JSON-able dictionaries while a model loads; the latest one is shown to operators."""


class Row(Protocol):
    """One entry: uint8 pixels of the slot shape (read-only, valid until there are answers) and its parameters."""

    @property
    def pixels(self) -> Pixels: ...

    @property
    def params(self) -> Mapping[str, Any]: ...


@dataclass(slots=True)
class Answers:
    """One JSON object (as bytes) or one exception per row, in order; `timings` of the batch in seconds."""

    fragments: Sequence[bytes | Exception]
    timings: Mapping[str, float] = field(default_factory=dict)


class Running(Protocol):
    """A batch that a model has begun. `wait` returns when the device is done with it, and is called from a thread of
    its own; `result` then does what is left for the CPU. Either raises what went wrong."""

    def wait(self) -> None: ...

    def result(self) -> Answers: ...


@dataclass(frozen=True, slots=True)
class WarmUpRow:
    """A row that nobody asked for, to run a model once before it is ready."""

    pixels: Pixels
    params: Mapping[str, Any]


def no_progress(step: Mapping[str, Any]) -> None:
    """A `Progress` that nobody watches."""
