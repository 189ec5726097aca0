"""From the raw output of a head for oriented boxes to JSON. Runs in a worker."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.candidates import NUM_BOX_COLUMNS
from models.detections import DetectOptions, Detector, rounded
from models.overlaps import Floats


class OrientedDetector(Detector):
    """Boxes with an angle: `corners` [[x, y] x 4], `angle` in radians and the upright `box` around the corners.

    All in pixels of the original and as the library's `obb.xyxyxyxy`, `obb.xywhr` and `obb.xyxy`: not clipped, and
    `angle` is that of the side from the fourth corner to the first, clockwise as seen on the screen.
    """

    is_rotated = True

    def _predictions(self, found: Floats, options: DetectOptions) -> list[dict[str, Any]]:
        letterbox = self._letterbox(options)
        letterbox.undo(found[:, :2])
        letterbox.undo_size(found[:, 2:4])
        angles = found[:, NUM_BOX_COLUMNS]
        corners = _corners(found[:, :2], found[:, 2:4], angles)
        upright = np.concatenate((corners.min(1), corners.max(1), found[:, 4:NUM_BOX_COLUMNS]), 1)
        predictions = self._boxes(upright)
        for each, points, angle in zip(predictions, rounded(corners), rounded(angles), strict=True):
            each["corners"] = points
            each["angle"] = angle
        return predictions


def _corners(centres: Floats, sizes: Floats, angles: Floats) -> Floats:
    """(boxes, 4, 2): x and y, in the order of the library's `xywhr2xyxyxyxy`."""
    cos, sin = np.cos(angles), np.sin(angles)
    along = np.stack((sizes[:, 0] / 2 * cos, sizes[:, 0] / 2 * sin), 1)
    across = np.stack((-sizes[:, 1] / 2 * sin, sizes[:, 1] / 2 * cos), 1)
    ahead, behind = centres + along, centres - along
    return np.stack((ahead + across, ahead - across, behind - across, behind + across), 1)
