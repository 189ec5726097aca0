"""The network in OpenVINO on the CPU. Runs in a worker; openvino is imported inside.

Images of a batch run one after another, each on all threads: measured, eight at once take no less time each (371 ms
against 323 ms, yolov8n at 640 on one busy core) but 210 MB more memory, and a network that is open to any batch size
prepares itself anew whenever the size changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.runtimes.runtime import Finished, Running

if TYPE_CHECKING:
    import openvino

_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class OpenVinoRuntime:
    """A converted network, on `num_threads` threads of the CPU; `precision` is fp32, bf16 or int8."""

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
        single = network.clone()
        single.reshape([1, *shape])
        compiled = openvino.Core().compile_model(single, "CPU", properties(precision, num_threads))
        self._request = compiled.create_infer_request()
        self._pixels = np.empty((1, *shape), np.uint8)
        self._request.set_input_tensor(openvino.Tensor(self._pixels, shared_memory=True))
        # Written by OpenVINO itself, so that nothing is copied to put the rows of a batch together.
        self._outputs = [
            np.empty((max_batch_size, *tuple(output.shape)[1:]), np.float32) for output in compiled.outputs
        ]
        self._places = [
            [openvino.Tensor(output[row : row + 1], shared_memory=True) for output in self._outputs]
            for row in range(max_batch_size)
        ]

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Run the batch to its end. Its answer is valid until the next one is begun."""
        if len(pixels) > len(self._places):
            raise ValueError(f"{len(pixels)} images are more than {len(self._places)}")
        place = self._pixels[0]
        for image, tensors in zip(pixels, self._places, strict=False):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
            for number, tensor in enumerate(tensors):
                self._request.set_output_tensor(number, tensor)
            self._request.infer()
        rows = [output[: len(pixels)] for output in self._outputs]
        return Finished(rows[0] if len(rows) == 1 else (rows[0], rows[1]))


def properties(precision: str, num_threads: int | None) -> dict[str, Any]:
    """Of OpenVINO's CPU plugin. Threads are never bound to cores: the worker is, and its cores are shared."""
    threads = {"INFERENCE_NUM_THREADS": num_threads} if num_threads else {}
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        **threads,
    }
