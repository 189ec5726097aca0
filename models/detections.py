"""From a detection head's raw output to JSON. Runs in a worker; torch and ultralytics are imported inside.

The boxes are the library's: its suppression of overlaps and its scaling back to the original image. Before it
is called, each row's candidates are picked out with one comparison on the device: the library walks over all
anchors of every row, candidates are few, and each row may have its own threshold. It is called for one row at
a time: in a batch it drops the last rows when the first took long.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from models.errors import InvalidParameterError

if TYPE_CHECKING:
    import torch

DEFAULT_CONFIDENCE = 0.25
DEFAULT_IOU = 0.7
DEFAULT_MAX_DETECTIONS = 300
NUM_DECIMALS = 5
END2END_COLUMNS = 6


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
        self._scale_boxes: Any = ops.scale_boxes
        _use_compiled_nms(nms.TorchNMS)

    def fragments(self, raw: torch.Tensor, options: Sequence[DetectOptions]) -> list[bytes]:
        """One JSON object per row of `raw`, predictions sorted by falling confidence.

        `raw` is (rows, 4 + classes, anchors) with boxes as centre and size, or for an end-to-end head
        (rows, boxes, 6) with corners, confidence and class; in pixels of the network's input.
        """
        import torch

        with torch.inference_mode():
            rows = _end2end_rows(raw) if self._end2end else _candidates(raw, options)
            return [self._fragment(row, each) for row, each in zip(rows, options, strict=True)]

    def _fragment(self, row: torch.Tensor, options: DetectOptions) -> bytes:
        """`row` is (1, 4 + classes, candidates) or, end to end, (1, boxes, 6), on the CPU."""
        if row.shape[-1] == 0:
            return b'{"predictions":[]}'
        found = self._suppress(
            row,
            options.confidence,
            options.iou,
            classes=None if options.classes is None else list(options.classes),
            max_det=options.max_detections,
            nc=len(self._labels),
            end2end=self._end2end,
        )[0]
        self._scale_boxes(self._input_shape, found[:, :4], (options.height, options.width))
        return self._encode(found[:, :END2END_COLUMNS])

    def _encode(self, found: torch.Tensor) -> bytes:
        """`found` is (detections, 6): corners in pixels of the original, confidence, class."""
        predictions = []
        for x1, y1, x2, y2, confidence, number in found.double().round(decimals=NUM_DECIMALS).tolist():
            class_id = int(number)
            box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
            label = self._labels[class_id]
            predictions.append({"label": label, "class_id": class_id, "confidence": confidence, "box": box})
        return orjson.dumps({"predictions": predictions})


def _candidates(raw: torch.Tensor, options: Sequence[DetectOptions]) -> list[torch.Tensor]:
    """Each row's anchors above its own confidence, in the order of anchors, as (1, 4 + classes, candidates).

    One transfer from the device for all rows. Anchors with a value that is not finite are left out.
    """
    import torch

    thresholds = raw.new_tensor([each.confidence for each in options]).unsqueeze(1)
    above = raw[:, 4:].amax(1) > thresholds
    row_numbers, anchors = above.nonzero(as_tuple=True)
    picked = raw[row_numbers, :, anchors].cpu()
    counts = torch.bincount(row_numbers, minlength=len(options)).tolist()
    parts = torch.split(picked, counts)
    return [_library_shaped(part[torch.isfinite(part).all(1)]) for part in parts]


def _library_shaped(part: torch.Tensor) -> torch.Tensor:
    """(candidates, 4 + classes) as the library wants it: channels before candidates, with a batch of one."""
    import torch

    if part.shape[0] == END2END_COLUMNS:
        # The library takes a last dimension of 6 for the output of an end-to-end head, so six candidates
        # become seven; the added one has confidence 0 and is never above a threshold.
        part = torch.cat((part, part.new_zeros((1, part.shape[1]))))
    return part.T.unsqueeze(0)


def _end2end_rows(raw: torch.Tensor) -> list[torch.Tensor]:
    """Each row's boxes as (1, boxes, 6), without those that are not finite."""
    import torch

    return [row[torch.isfinite(row).all(1)].unsqueeze(0) for row in raw.cpu()]


def _use_compiled_nms(library: Any) -> None:
    """Let the library suppress overlaps with torchvision's compiled operator instead of its loop in Python.

    The library does so by itself only where torchvision was imported, which takes seconds (it pulls in
    torch._dynamo); loading the operator alone takes milliseconds. Both keep the same boxes. Where the
    extension cannot be loaded the loop stays, which costs time only.
    """
    import torch

    operators: Any = torch.ops
    found = importlib.util.find_spec("torchvision")
    for folder in (found.submodule_search_locations or []) if found else []:
        for extension in sorted(Path(folder).glob("_C*.so")):
            with suppress(OSError):  # built for another torch
                operators.load_library(extension)
                library.nms = staticmethod(operators.torchvision.nms)
                return
