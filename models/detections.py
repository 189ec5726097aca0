"""From a detection head's raw output to JSON: the part that all tasks with boxes share, and all of task detect.

Runs in a worker, without torch or the library: which boxes stay is said by candidates.py, the rest is NumPy. Boxes are
those of the library's `predict`, row by row: in a batch it drops the last rows when the first took long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from models.candidates import NUM_BOX_COLUMNS, Layout, kept_boxes
from models.errors import InvalidParameterError
from models.letterbox import Letterbox
from models.overlaps import Floats

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

    is_rotated = False

    def __init__(self, labels: Sequence[str], input_shape: tuple[int, int], end2end: bool) -> None:
        self._labels = tuple(labels)
        self._input_shape = input_shape
        self._layout = Layout(len(self._labels), end2end, self.is_rotated)

    def read_options(self, params: Mapping[str, Any]) -> DetectOptions:
        """One row's parameters, checked. Raises InvalidParameterError."""
        return DetectOptions.from_params(params)

    @np.errstate(all="ignore")  # what a broken network says is finite may be huge
    def fragments(self, raw: Any, options: Sequence[Any]) -> list[bytes]:
        """One JSON object per row of `raw`, predictions sorted by falling confidence.

        `raw` is an array or a tensor as in `models.candidates.Layout`. It is not changed.
        """
        found = kept_boxes(raw, self._layout, options)
        rows = zip(found, options, strict=True)
        return [encode(self._predictions(row, each) if len(row) else []) for row, each in rows]

    def _predictions(self, found: Floats, options: DetectOptions) -> list[dict[str, Any]]:
        """What is said of each box of `found`, at least one, whose places are changed to the original's pixels."""
        self._scale(found, options)
        return self._boxes(found)

    def _scale(self, found: Floats, options: DetectOptions) -> None:
        """Change the corners in `found` from pixels of the network's input to pixels of the original, clipped."""
        letterbox = self._letterbox(options)
        for corner in (found[:, :2], found[:, 2:4]):
            letterbox.undo(corner)
            letterbox.clip(corner)

    def _letterbox(self, options: DetectOptions) -> Letterbox:
        return Letterbox.between((options.height, options.width), self._input_shape)

    def _boxes(self, found: Floats) -> list[dict[str, Any]]:
        """`found` begins with corners in pixels of the original, confidence and class."""
        predictions = []
        for x1, y1, x2, y2, confidence, number in rounded(found[:, :NUM_BOX_COLUMNS]):
            class_id = int(number)
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            label = self._labels[class_id]
            predictions.append({"label": label, "class_id": class_id, "confidence": confidence, "box": box})
        return predictions


def rounded(numbers: npt.NDArray[np.floating[Any]]) -> Any:
    """Nested lists of Python numbers with NUM_DECIMALS digits behind the point."""
    return numbers.astype(np.float64).round(NUM_DECIMALS).tolist()


def encode(predictions: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON object of one row."""
    return orjson.dumps({"predictions": predictions})
