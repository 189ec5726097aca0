"""From the raw output of a transformer's decoder (RT-DETR) to JSON. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.detections import DetectOptions, Detector

if TYPE_CHECKING:
    import torch


class QueryDetector(Detector):
    """Final boxes as parts of the image: (rows, queries, 6) with centre and size from 0 to 1, confidence, class.

    Clipped to the image, which the library leaves out for this architecture.
    """

    def __init__(self, labels: Sequence[str], input_shape: tuple[int, int]) -> None:
        super().__init__(labels, input_shape, end2end=True)

    def _scale(self, found: torch.Tensor, options: DetectOptions) -> None:
        corners = self._ops.xywh2xyxy(found[:, :4])
        width, height = options.width, options.height
        corners *= corners.new_tensor([width, height, width, height])
        found[:, :4] = self._ops.clip_boxes(corners, (height, width))
