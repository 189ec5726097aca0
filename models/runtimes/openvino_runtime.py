"""The network in OpenVINO on the CPU. Runs in a worker; openvino is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.runtimes.runtime import Array, RawOutput, Running

if TYPE_CHECKING:
    import openvino

DEPTH = 2
"""Batches that may be under way at once: one runs while the answer of the one before is still read."""
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class OpenVinoRuntime:
    """A converted network, on `num_threads` threads of the CPU; `precision` is fp32, bf16 or int8.

    Batches run as one, of any size up to `max_batch_size`: the network's first dimension is open.
    """

    name = "openvino"

    def __init__(
        self,
        network: openvino.Model,
        shape: tuple[int, int, int],
        max_batch_size: int,
        precision: str,
        num_threads: int | None = None,
    ) -> None:
        """Compile `network`. `shape` is one image's (height, width, 3); `num_threads` None: one for each core."""
        import openvino

        self.precision = precision
        self._core = openvino.Core()
        compiled = self._core.compile_model(network, "CPU", properties(precision, num_threads))
        self._requests = [_Request(compiled, (max_batch_size, *shape)) for _ in range(DEPTH)]
        self._turn = 0

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Copy the images and begin; they may change as soon as this returns."""
        request = self._requests[self._turn]
        request.begin(pixels)
        self._turn = (self._turn + 1) % DEPTH
        return request


def properties(precision: str, num_threads: int | None) -> dict[str, Any]:
    """Of OpenVINO's CPU plugin. Threads are never bound to cores: the worker is, and its cores are shared."""
    threads = {"INFERENCE_NUM_THREADS": num_threads} if num_threads else {}
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        **threads,
    }


class _Request:
    """One place for a batch: its pixels, and the answer until the place is used again."""

    def __init__(self, compiled: openvino.CompiledModel, shape: tuple[int, int, int, int]) -> None:
        self._request = compiled.create_infer_request()
        self._num_outputs = len(compiled.outputs)
        self._pixels = np.empty(shape, np.uint8)

    def begin(self, pixels: Sequence[Pixels]) -> None:
        import openvino

        self._request.wait()  # of a batch whose answer nobody asked for
        batch = self._pixels[: len(pixels)]
        for place, image in zip(batch, pixels, strict=True):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
        self._request.set_input_tensor(openvino.Tensor(batch, shared_memory=True))
        self._request.start_async()

    def result(self) -> RawOutput:
        """Wait for the batch. The arrays are OpenVINO's own memory, written again DEPTH batches later."""
        self._request.wait()
        outputs = [self._array(number) for number in range(self._num_outputs)]
        return outputs[0] if len(outputs) == 1 else (outputs[0], outputs[1])

    def _array(self, number: int) -> Array:
        array: Array = self._request.get_output_tensor(number).data
        return array
