"""From the raw output of a transformer's decoder (RT-DETR) to JSON. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.detections import DetectOptions, Detector
from models.overlaps import Floats


class QueryDetector(Detector):
    """Final boxes as parts of the image: (rows, queries, 6) with centre and size from 0 to 1, confidence, class.

    Clipped to the image, which the library leaves out for this architecture.
    """

    def __init__(self, labels: Sequence[str], input_shape: tuple[int, int]) -> None:
        super().__init__(labels, input_shape, end2end=True)

    def _scale(self, found: Floats, options: DetectOptions) -> None:
        size = np.array([options.width, options.height], np.float32)
        centre, half = found[:, :2].copy(), found[:, 2:4] / 2
        found[:, :2] = ((centre - half) * size).clip(0, size)
        found[:, 2:4] = ((centre + half) * size).clip(0, size)
