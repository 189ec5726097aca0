"""How the cores are best shared out among the replicas of a converted network: measured, once per machine.

A replica of few threads loses least to waiting for its own threads, one of many shares its caches best. Which wins
depends on network and processor. Streams in one process stand for replicas: they do the same work side by side.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.runtimes.openvino_runtime import properties

if TYPE_CHECKING:
    import openvino

MAX_REPLICAS = 16
SECONDS = 0.6
"""For each layout, after one image on every stream."""


def widths(num_cores: int) -> list[int]:
    """Threads per replica that are tried: powers of two, and all cores; none on a single core."""
    if num_cores < 2:
        return []
    powers = (1 << exponent for exponent in range(num_cores.bit_length()))
    return sorted({width for width in (*powers, num_cores) if num_cores / MAX_REPLICAS <= width <= num_cores})


def measure_layouts(
    network: openvino.Model, shape: Sequence[int], precision: str, num_cores: int
) -> Mapping[str, float]:
    """Images per second of all replicas together, by the threads of each. `shape` is one image's (height, width, 3).

    To be called where this thread may run on all the cores.
    """
    single = network.clone()
    single.reshape([1, *shape])
    return {
        str(width): _images_per_second(single, precision, num_cores, width) for width in widths(num_cores)
    }


def _images_per_second(single: openvino.Model, precision: str, num_cores: int, width: int) -> float:
    import openvino

    num_streams = num_cores // width
    options: dict[str, Any] = {**properties(precision, width * num_streams), "NUM_STREAMS": num_streams}
    compiled = openvino.Core().compile_model(single, "CPU", options)
    queue = openvino.AsyncInferQueue(compiled, num_streams)
    pixels = np.zeros(tuple(single.input().shape), np.uint8)
    for _ in range(num_streams):
        queue.start_async([pixels])
    queue.wait_all()
    num_images, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        queue.start_async([pixels])  # waits for a stream that is free
        num_images += 1
    queue.wait_all()
    return round(num_images / (time.perf_counter() - started), 2)
