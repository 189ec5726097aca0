"""Mean average precision of a detector on drawn scenes, by the library's own formula, through the engine's own path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from bench.networks import Image
from models.answers import WarmUpRow

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Of the overlap; the mean over all of them is mAP50-95."""
_ASKED = {"confidence": 0.001, "iou": 0.7, "max_detections": 300}
"""What the library's validator asks with."""


@dataclass(frozen=True)
class Pictured:
    """A scene as JPEG, and what is in it: `boxes` (n, 4) in pixels, `classes` (n)."""

    jpeg: bytes
    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]


def draw(seed: int) -> Pictured:
    """The demo's scene of this seed."""
    from models.demo.scenes import draw_scene
    from models.demo.shapes import SHAPES

    scene = draw_scene(seed)
    boxes = np.array([thing.box for thing in scene.objects], np.float64).reshape(-1, 4)
    return Pictured(scene.jpeg(), boxes, np.array([SHAPES.index(thing.shape) for thing in scene.objects]))


def mean_average_precision(
    model: Any, scenes: Sequence[Pictured], decode: Callable[[bytes, Image], tuple[int, int]]
) -> float:
    """mAP50-95 of `model` (a YoloModel). `decode` fills a slot and tells the original's (width, height)."""
    from ultralytics.utils.metrics import ap_per_class

    hits, confidences, classes = [], [], []
    for scene in scenes:
        slot = np.empty(model.slot_shape, np.uint8)
        width, height = decode(scene.jpeg, slot)
        (fragment,) = model.infer([WarmUpRow(slot, {"width": width, "height": height, **_ASKED})]).fragments
        if isinstance(fragment, Exception):
            raise fragment
        found = orjson.loads(fragment)["predictions"]
        boxes = np.array([list(each["box"].values()) for each in found], np.float64).reshape(-1, 4)
        labels = np.array([each["class_id"] for each in found], np.int64)
        hits.append(_hits(scene, boxes, labels))
        confidences.append(np.array([each["confidence"] for each in found]))
        classes.append(labels)
    measure: Any = ap_per_class
    truth = np.concatenate([scene.classes for scene in scenes])
    precisions = measure(*map(np.concatenate, (hits, confidences, classes)), truth)[5]
    return float(precisions.mean())


def _hits(
    scene: Pictured, boxes: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """For each found box and threshold, whether it has an object of its own; best overlaps first, as the library."""
    hits = np.zeros((len(boxes), len(THRESHOLDS)), bool)
    overlaps = _overlaps(scene.boxes, boxes) * (scene.classes[:, None] == labels[None, :])
    for column, threshold in enumerate(THRESHOLDS):
        objects, found = np.nonzero(overlaps >= threshold)
        order = np.argsort(-overlaps[objects, found], kind="stable")
        pairs = np.stack([objects[order], found[order]], 1)
        pairs = pairs[np.unique(pairs[:, 1], return_index=True)[1]]
        pairs = pairs[np.unique(pairs[:, 0], return_index=True)[1]]
        hits[pairs[:, 1], column] = True
    return hits


def _overlaps(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, m) intersections over unions."""
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (ours, theirs)]
    shares: npt.NDArray[np.float64] = both / np.maximum(areas[0][:, None] + areas[1][None, :] - both, 1e-9)
    return shares
