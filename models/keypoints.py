"""From a pose head's raw output to JSON. Runs in a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.candidates import NUM_BOX_COLUMNS
from models.detections import DetectOptions, Detector, rounded
from models.overlaps import Floats


class KeypointDetector(Detector):
    """Adds to each box its `keypoints`, in the order of the network: pixels of the original, clipped to it.

    `keypoint_shape` is (keypoints, 2 or 3); networks with 2 say nothing of a keypoint's confidence.
    """

    def __init__(
        self,
        labels: Sequence[str],
        input_shape: tuple[int, int],
        end2end: bool,
        keypoint_shape: tuple[int, int],
    ) -> None:
        super().__init__(labels, input_shape, end2end)
        self._keypoint_shape = keypoint_shape

    def _predictions(self, found: Floats, options: DetectOptions) -> list[dict[str, Any]]:
        predictions = super()._predictions(found, options)
        keypoints = found[:, NUM_BOX_COLUMNS:].reshape(len(found), *self._keypoint_shape)
        letterbox = self._letterbox(options)
        letterbox.undo(keypoints)
        letterbox.clip(keypoints)
        for each, points in zip(predictions, rounded(keypoints), strict=True):
            each["keypoints"] = _named(points)
        return predictions


def _named(points: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    if len(points[0]) == 2:
        return [{"x": x, "y": y} for x, y in points]
    return [{"x": x, "y": y, "confidence": confidence} for x, y, confidence in points]
