"""The network in OpenVINO on the CPU. Runs in a worker; openvino is imported inside.

Images of a batch run one after another, each on all threads: measured, eight at once take no less time each (371 ms
against 323 ms, yolov8n at 640 on one busy core) but 210 MB more memory, and a network that is open to any batch size
prepares itself anew whenever the size changes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.answers import Pixels
from models.runtimes import cores
from models.runtimes.place import Place
from models.runtimes.runtime import Finished, Running
from models.runtimes.widening import Widening

if TYPE_CHECKING:
    import openvino

MAX_WIDE_BYTES = 64 * 2**20
"""Of a network's constants; a larger one is not compiled a second time."""
_HINTS = {"fp32": "f32", "int8": "f32", "bf16": "bf16"}


class OpenVinoRuntime:
    """A converted network, on the threads of its place; `precision` is fp32, bf16 or int8.

    Where it has all cores to itself (`is_alone`) and fewer threads than these, an image is spread over them:
    one that comes alone is then answered as fast as the machine can, and the throughput of many keeps the threads few.
    """

    name = "openvino"
    runs_one_by_one = True

    def __init__(
        self,
        network: openvino.Model,
        shape: tuple[int, int, int],
        precision: str,
        place: Place,
    ) -> None:
        """Compile `network`. `shape` is one image's (height, width, 3)."""
        import openvino

        self.precision = precision
        self.is_alone = False
        single = network.clone()
        single.reshape([1, *shape])
        self._pixels = np.empty((1, *shape), np.uint8)
        self._input = openvino.Tensor(self._pixels, shared_memory=True)
        self._narrow = _request(single, properties(precision, place.num_threads), self._input)
        self._wide: openvino.InferRequest | None = None
        self._widening = Widening()
        # Written by OpenVINO itself, so that nothing is copied to put the rows of a batch together.
        self._outputs = [
            np.empty((place.max_batch_size, *tuple(output.shape)[1:]), np.float32)
            for output in single.outputs
        ]
        self._places = [
            [openvino.Tensor(output[row : row + 1], shared_memory=True) for output in self._outputs]
            for row in range(place.max_batch_size)
        ]
        if place.num_threads and place.num_threads < place.num_cores and _num_bytes(single) <= MAX_WIDE_BYTES:
            self._widen(single, place)

    def _widen(self, single: openvino.Model, place: Place) -> None:
        with cores.on(place.all_cores):  # threads start where their maker may run
            self._wide = _request(single, properties(self.precision, place.num_cores), self._input)
            self._infer(self._wide, self._places[0])

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        """Run the batch to its end. Its answer is valid until the next one is begun."""
        if len(pixels) > len(self._places):
            raise ValueError(f"{len(pixels)} images are more than {len(self._places)}")
        place = self._pixels[0]
        for image, tensors in zip(pixels, self._places, strict=False):
            if image.shape != place.shape:
                raise ValueError(f"pixels of shape {image.shape} do not fit {place.shape}")
            np.copyto(place, image)
            if self._wide is not None and self.is_alone and self._widening.is_worth_it():
                self._widening.observe_wide(self._infer(self._wide, tensors))
            else:
                self._widening.observe_narrow(self._infer(self._narrow, tensors))
        rows = [output[: len(pixels)] for output in self._outputs]
        return Finished(rows[0] if len(rows) == 1 else (rows[0], rows[1]))

    def _infer(self, request: openvino.InferRequest, tensors: Sequence[openvino.Tensor]) -> float:
        """Run one image; the seconds that it took."""
        started = time.perf_counter()
        for number, tensor in enumerate(tensors):
            request.set_output_tensor(number, tensor)
        request.infer()
        return time.perf_counter() - started


def _request(
    network: openvino.Model, properties: dict[str, Any], pixels: openvino.Tensor
) -> openvino.InferRequest:
    import openvino

    request = openvino.Core().compile_model(network, "CPU", properties).create_infer_request()
    request.set_input_tensor(pixels)
    return request


def _num_bytes(network: openvino.Model) -> int:
    """Of its constants: what is kept twice if it is compiled twice."""
    return sum(node.get_byte_size() for node in network.get_ops() if node.get_type_name() == "Constant")


def properties(precision: str, num_threads: int | None) -> dict[str, Any]:
    """Of OpenVINO's CPU plugin. Threads are never bound to cores: the worker is, and its cores are shared."""
    threads = {"INFERENCE_NUM_THREADS": num_threads} if num_threads else {}
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        **threads,
    }
