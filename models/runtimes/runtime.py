"""What every runtime has in common. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from models.answers import Pixels

if TYPE_CHECKING:
    import torch

Array: TypeAlias = "npt.NDArray[np.float32] | torch.Tensor"
"""float32: NumPy's from a runtime on the CPU, a tensor on its device from a runtime on a GPU."""
RawOutput: TypeAlias = "Array | tuple[Array, Array]"
"""What a head gives: for each row what is to be post-processed, and in segmentation the prototypes of its masks."""


class Running(Protocol):
    """A batch that was begun."""

    def result(self) -> RawOutput:
        """Wait for it, in whatever thread; once. Batch first; valid until the runtime begins as many batches again
        as it can hold."""
        ...


class Runtime(Protocol):
    """A network ready to run. `name` (torch, openvino, tensorrt) and `precision` (fp32, bf16, fp16, int8) are what
    operators read.

    A runtime may have `max_launched`: how many batches may be begun before the first of them is collected (1 where it
    is missing). It may have `attach(memory)`: it is told the flat uint8 array in which all slots lie, before the first
    row from one of them, and can copy from there without a copy by the CPU.
    """

    name: str
    precision: str

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Begin 1 to `max_batch_size` images, each uint8 RGB of (height, width, 3); returns at once where the device
        works by itself. The pixels must stay as they are until the result is there."""
        ...


class Finished:
    """A batch that was run while it was begun."""

    def __init__(self, raw: RawOutput) -> None:
        self._raw = raw

    def result(self) -> RawOutput:
        """What the head gave."""
        return self._raw
