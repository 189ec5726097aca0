"""From a segmentation head's raw output to JSON. Runs in a worker; cv2 is imported inside.

Two paths of the library are matched, each where it is the cheaper one that is right. Polygons are the library's
`masks.xy` with its defaults: masks at the size of the network's input, their outlines scaled to the original. Run
lengths are its `masks.data` with `retina_masks=True`: one bit per pixel of the original. Neither makes a picture
of the original's size (see runs.py), nor one of the input's size for more than a few masks at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import orjson

from models.candidates import NUM_BOX_COLUMNS, kept_boxes, on_host
from models.detections import DetectOptions, Detector, encode
from models.errors import InvalidParameterError
from models.outlines import joined
from models.overlaps import Floats
from models.runs import mask_runs, run_length_text

PROTOTYPE_STRIDE = (
    4  # pixels of the network's input per value of a prototype, in all of the library's networks
)
MASKS_AT_ONCE = 16
NUM_POLYGON_DECIMALS = 2


@dataclass(frozen=True, slots=True)
class SegmentOptions(DetectOptions):
    """One row's parameters: those of boxes, and `masks`, "polygon" or "rle"."""

    masks: str = "polygon"

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> SegmentOptions:
        """Read a row's parameters. Raises InvalidParameterError."""
        masks = params.get("masks", "polygon")
        if masks not in ("polygon", "rle"):
            raise InvalidParameterError("masks must be polygon or rle")
        boxes = DetectOptions.from_params(params)
        return cls(**{field.name: getattr(boxes, field.name) for field in fields(boxes)}, masks=masks)


class Segmenter(Detector):
    """Adds to each box the `polygon` or the `mask` of what is in it; boxes with nothing in them are left out."""

    def read_options(self, params: Mapping[str, Any]) -> SegmentOptions:
        return SegmentOptions.from_params(params)

    @np.errstate(all="ignore")  # what a broken network says may be huge, and its prototypes not finite
    def fragments(self, raw: Any, options: Sequence[Any]) -> list[bytes]:
        """One JSON object per row, predictions sorted by falling confidence.

        `raw` is the boxes, as in `Detector.fragments`, whose extra columns are coefficients of the prototypes, and
        the prototypes, (rows, prototypes, height / 4, width / 4).
        """
        boxes, prototypes = raw
        rows = zip(kept_boxes(boxes, self._layout, options), prototypes, options, strict=True)
        return [
            self._segmented(found, on_host(own), each) if len(found) else encode([])
            for found, own, each in rows
        ]

    def _segmented(self, found: Floats, prototypes: Floats, options: SegmentOptions) -> bytes:
        """`found` is (boxes, 6 + prototypes), at least one, in pixels of the network's input."""
        at_input = found[:, :4].tolist()
        predictions = self._predictions(found, options)
        at_original = found[:, :4].tolist()
        segmented = []
        logits = _logits(found[:, NUM_BOX_COLUMNS:], prototypes)
        letterbox = self._letterbox(options)
        shape = letterbox.shape
        for each, inside, box, scaled in zip(predictions, logits, at_input, at_original, strict=True):
            if options.masks == "rle":
                starts, ends = mask_runs(inside, scaled, shape)
                if len(starts):
                    counts = run_length_text(starts, ends, options.height * options.width)
                    segmented.append({**each, "mask": {"size": list(shape), "counts": counts}})
            elif (outline := _outline(inside, box, self._input_shape)) is not None:
                letterbox.undo(outline)
                letterbox.clip(outline)
                polygon = outline.astype(np.float64).round(NUM_POLYGON_DECIMALS)
                segmented.append({**each, "polygon": polygon})
        return orjson.dumps({"predictions": segmented}, option=orjson.OPT_SERIALIZE_NUMPY)


def _logits(coefficients: Floats, prototypes: Floats) -> Iterator[Floats]:
    """For each box the mask's logits at the prototypes' size, a few computed at once."""
    num_prototypes, height, width = prototypes.shape
    flat = prototypes.reshape(num_prototypes, -1)
    for start in range(0, len(coefficients), MASKS_AT_ONCE):
        yield from (coefficients[start : start + MASKS_AT_ONCE] @ flat).reshape(-1, height, width)


def _outline(logits: Floats, box: Sequence[float], input_shape: tuple[int, int]) -> Floats | None:
    """The outline of one mask inside its box, both in pixels of the network's input: (points, 2), x and y.

    None if the mask is empty. The logits are enlarged for the box alone, with the prototypes next to it, so that
    the values are those of the whole.
    """
    import cv2

    height, width = input_shape
    x1, x2 = _pixels(box[0], box[2], width)
    y1, y2 = _pixels(box[1], box[3], height)
    if x1 >= x2 or y1 >= y2:
        return None
    left, top = (max(first // PROTOTYPE_STRIDE - 1, 0) for first in (x1, y1))
    right, bottom = (-(-last // PROTOTYPE_STRIDE) + 1 for last in (x2, y2))
    near = np.ascontiguousarray(logits[top:bottom, left:right])
    size = (near.shape[1] * PROTOTYPE_STRIDE, near.shape[0] * PROTOTYPE_STRIDE)
    enlarged = np.asarray(cv2.resize(near, size, interpolation=cv2.INTER_LINEAR))
    left, top = left * PROTOTYPE_STRIDE, top * PROTOTYPE_STRIDE
    inside = (enlarged[y1 - top : y2 - top, x1 - left : x2 - left] > 0).astype(np.uint8)
    outlines = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not outlines:
        return None
    points = joined([np.asarray(each).reshape(-1, 2) for each in outlines])
    outline: Floats = (points + np.array([x1, y1])).astype(np.float32)
    return outline


def _pixels(first: float, last: float, length: int) -> tuple[int, int]:
    """The pixels from `first` to below `last`, as a range inside 0..length."""
    return max(int(np.ceil(first)), 0), min(int(np.ceil(last)), length)
