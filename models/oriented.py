"""From the raw output of a head for oriented boxes to JSON. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.candidates import NUM_BOX_COLUMNS
from models.detections import DetectOptions, Detector, rounded

if TYPE_CHECKING:
    import torch

MAX_CANDIDATES = 30_000  # the library's, as is the next
CLASS_OFFSET = 7680  # pixels by which classes are moved apart, so that only boxes of one class overlap
MAX_PAIRS = 1_000_000  # compared at once: a dozen intermediate results of 4 MB


class OrientedDetector(Detector):
    """Boxes with an angle: `corners` [[x, y] x 4], `angle` in radians and the upright `box` around the corners.

    All in pixels of the original and as the library's `obb.xyxyxyxy`, `obb.xywhr` and `obb.xyxy`: not clipped, and
    `angle` is that of the side from the fourth corner to the first, clockwise as seen on the screen.
    """

    def _without_overlaps(self, row: torch.Tensor, options: DetectOptions) -> torch.Tensor:
        """(boxes, 7): centre, size, confidence, class, angle."""
        if self._end2end or row.shape[-1] == 0:
            return super()._without_overlaps(row, options)
        return self._best(row[0].T, options)

    def _best(self, found: torch.Tensor, options: DetectOptions) -> torch.Tensor:
        """What the library's suppression keeps of `found`, which is (candidates, 4 + classes + 1).

        The library compares all candidates with all others at once, which is gigabytes for ten thousand.
        """
        import torch

        places, scores, angles = found.split((4, len(self._labels), 1), 1)
        confidence, classes = scores.max(1)
        is_wanted = confidence > options.confidence
        if options.classes is not None:
            is_wanted &= torch.isin(classes, classes.new_tensor(options.classes))
        columns = (places, confidence[:, None], classes[:, None].float(), angles)
        sorted_ones = torch.cat(columns, 1)[is_wanted]
        order = sorted_ones[:, 4].argsort(descending=True)[:MAX_CANDIDATES]
        sorted_ones = sorted_ones[order]
        apart = sorted_ones[:, 5:6] * CLASS_OFFSET
        shapes = torch.cat((sorted_ones[:, :2] + apart, sorted_ones[:, 2:4], sorted_ones[:, 6:]), 1)
        return sorted_ones[first_not_overlapped(shapes, options.iou, options.max_detections)]

    def _predictions(self, found: torch.Tensor, options: DetectOptions) -> list[dict[str, Any]]:
        import torch

        shape = (options.height, options.width)
        self._ops.scale_boxes(self._input_shape, found[:, :4], shape, xywh=True)
        angles = found[:, NUM_BOX_COLUMNS]
        corners = self._ops.xywhr2xyxyxyxy(torch.cat((found[:, :4], angles[:, None]), 1))
        upright = torch.cat((corners.amin(1), corners.amax(1), found[:, 4:NUM_BOX_COLUMNS]), 1)
        predictions = self._boxes(upright)
        for each, points, angle in zip(predictions, rounded(corners), rounded(angles), strict=True):
            each["corners"] = points
            each["angle"] = angle
        return predictions


def first_not_overlapped(shapes: torch.Tensor, iou: float, max_count: int) -> torch.Tensor:
    """Indices of the first `max_count` of `shapes` that no shape before them overlaps by more than `iou`.

    `shapes` is (count, 5): centre, size and angle, best first. The same as the library's `fast_nms` with
    `batch_probiou`, a block of columns at a time, and no further than is asked for.
    """
    import torch
    from ultralytics.utils.metrics import batch_probiou

    overlap_of: Any = batch_probiou
    blocks: list[torch.Tensor] = []
    num_kept, start = 0, 0
    while start < len(shapes) and num_kept < max_count:
        stop = min(start + max(MAX_PAIRS // (start + 1000), 1), len(shapes))
        overlaps = overlap_of(shapes[:stop], shapes[start:stop]).triu_(diagonal=1 - start)
        kept = (overlaps > iou).logical_not_().all(0).nonzero().squeeze(1) + start
        blocks.append(kept)
        num_kept += len(kept)
        start = stop
    return torch.cat(blocks)[:max_count] if blocks else torch.empty(0, dtype=torch.int64)
