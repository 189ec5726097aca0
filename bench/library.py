"""Ultralytics itself on the same weights, and its answers in our words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.networks import SIZE, Image


class Library:
    """Ultralytics itself, on the same weights. `end2end` asks for the end-to-end head, None leaves it the choice."""

    def __init__(self, path: Path, end2end: bool | None = None) -> None:
        from ultralytics import YOLO

        self._yolo = YOLO(path)
        self._always = {} if end2end is None else {"nms": not end2end}

    def results(self, image: Image, imgsz: Any = SIZE, **options: Any) -> Any:
        """The library's result for one RGB image. `options` are the library's: conf, iou, max_det, classes."""
        return self._yolo.predict(
            image[..., ::-1], rect=False, imgsz=imgsz, verbose=False, device="cpu", **self._always, **options
        )[0]

    def __call__(self, image: Image, imgsz: Any = SIZE, **options: Any) -> list[dict[str, Any]]:
        """Boxes as `predictions` has them."""
        return boxes(self.results(image, imgsz, **options).boxes)


def boxes(found: Any) -> list[dict[str, Any]]:
    """The library's `Boxes` or `OBB` as `predictions` has them."""
    keys = ("x1", "y1", "x2", "y2")
    rows = zip(found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True)
    return [
        {"class_id": int(number), "confidence": confidence, "box": dict(zip(keys, corners, strict=True))}
        for corners, confidence, number in rows
    ]


def overlap(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    width = min(one["x2"], two["x2"]) - max(one["x1"], two["x1"])
    height = min(one["y2"], two["y2"]) - max(one["y1"], two["y1"])
    both = max(width, 0.0) * max(height, 0.0)
    area = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (one, two)) - both
    return both / area if area > 0 else 0.0
