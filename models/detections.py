"""From a detection head's raw output to JSON: the part that all tasks with boxes share, and all of task detect.

Runs in a worker; torch and ultralytics are imported inside. The boxes are the library's: its suppression of overlaps
and its scaling back to the original image. It is called for one row at a time: in a batch it drops the last rows when
the first took long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from models.candidates import NUM_BOX_COLUMNS, candidates, end2end_rows, use_compiled_nms
from models.errors import InvalidParameterError

if TYPE_CHECKING:
    import torch

DEFAULT_CONFIDENCE = 0.25
DEFAULT_IOU = 0.7
DEFAULT_MAX_DETECTIONS = 300
NUM_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """One row's parameters. `width` and `height` are pixels of the displayed original image.

    A detection is kept if its confidence is above `confidence`; of two boxes of a class that overlap by more
    than `iou` only the better one is. `classes` None means all of them.
    """

    width: int
    height: int
    confidence: float = DEFAULT_CONFIDENCE
    iou: float = DEFAULT_IOU
    max_detections: int = DEFAULT_MAX_DETECTIONS
    classes: tuple[int, ...] | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> DetectOptions:
        """Read a row's parameters. Raises InvalidParameterError."""
        try:
            classes = params.get("classes")
            options = cls(
                width=int(params["width"]),
                height=int(params["height"]),
                confidence=float(params.get("confidence", DEFAULT_CONFIDENCE)),
                iou=float(params.get("iou", DEFAULT_IOU)),
                max_detections=int(params.get("max_detections", DEFAULT_MAX_DETECTIONS)),
                classes=None if classes is None else tuple(int(index) for index in classes),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InvalidParameterError(f"{type(error).__name__}: {error}") from error
        if not (0.0 <= options.confidence <= 1.0 and 0.0 <= options.iou <= 1.0):
            raise InvalidParameterError("confidence and iou must be from 0 to 1")
        if min(options.width, options.height, options.max_detections) < 1:
            raise InvalidParameterError("width, height and max_detections must be at least 1")
        return options


class Detector:
    """Turns raw outputs of one network into JSON fragments. `input_shape` is (height, width) in pixels."""

    def __init__(self, labels: Sequence[str], input_shape: tuple[int, int], end2end: bool) -> None:
        from ultralytics.utils import nms, ops

        self._labels = tuple(labels)
        self._input_shape = input_shape
        self._end2end = end2end
        self._suppress: Any = nms.non_max_suppression
        self._ops: Any = ops
        use_compiled_nms(nms.TorchNMS)

    def read_options(self, params: Mapping[str, Any]) -> DetectOptions:
        """One row's parameters, checked. Raises InvalidParameterError."""
        return DetectOptions.from_params(params)

    def fragments(self, raw: torch.Tensor, options: Sequence[DetectOptions]) -> list[bytes]:
        """One JSON object per row of `raw`, predictions sorted by falling confidence.

        `raw` is (rows, 4 + classes + extra, anchors) with boxes as centre and size, or for an end-to-end head
        (rows, boxes, 6 + extra) with corners, confidence and class; in pixels of the network's input.
        """
        import torch

        with torch.inference_mode():
            found = self._found(raw, options)
            rows = zip(found, options, strict=True)
            return [encode(self._predictions(row, each) if len(row) else []) for row, each in rows]

    def _found(self, raw: torch.Tensor, options: Sequence[DetectOptions]) -> list[torch.Tensor]:
        """For each row the boxes that stay: (boxes, 6 + extra) on the CPU, in pixels of the network's input."""
        if self._end2end:
            rows = end2end_rows(raw)
        else:
            rows = candidates(raw, [each.confidence for each in options], len(self._labels))
        return [self._without_overlaps(row, each) for row, each in zip(rows, options, strict=True)]

    def _without_overlaps(self, row: torch.Tensor, options: DetectOptions) -> torch.Tensor:
        """`row` is (1, 4 + classes + extra, candidates) or, end to end, (1, boxes, 6 + extra)."""
        if row.shape[-1] == 0:
            return row.new_empty((0, NUM_BOX_COLUMNS))
        found: torch.Tensor = self._suppress(
            row,
            options.confidence,
            options.iou,
            classes=None if options.classes is None else list(options.classes),
            max_det=options.max_detections,
            nc=len(self._labels),
            end2end=self._end2end,
        )[0]
        return found

    def _predictions(self, found: torch.Tensor, options: DetectOptions) -> list[dict[str, Any]]:
        """What is said of each box of `found`, at least one, whose places are changed to the original's pixels."""
        self._scale(found, options)
        return self._boxes(found)

    def _scale(self, found: torch.Tensor, options: DetectOptions) -> None:
        """Change the corners in `found` from pixels of the network's input to pixels of the original, clipped."""
        self._ops.scale_boxes(self._input_shape, found[:, :4], (options.height, options.width))

    def _boxes(self, found: torch.Tensor) -> list[dict[str, Any]]:
        """`found` begins with corners in pixels of the original, confidence and class."""
        predictions = []
        for x1, y1, x2, y2, confidence, number in rounded(found[:, :NUM_BOX_COLUMNS]):
            class_id = int(number)
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            label = self._labels[class_id]
            predictions.append({"label": label, "class_id": class_id, "confidence": confidence, "box": box})
        return predictions


def rounded(numbers: torch.Tensor) -> Any:
    """Nested lists of Python numbers with NUM_DECIMALS digits behind the point."""
    return numbers.double().round(decimals=NUM_DECIMALS).tolist()


def encode(predictions: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON object of one row."""
    return orjson.dumps({"predictions": predictions})
