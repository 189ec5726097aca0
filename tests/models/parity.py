"""The library itself on the same weights, and what it means that two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from models.answers import Answers, no_progress
from models.catalogue import operator_entry
from models.yolo import YoloModel, load
from tests.models.networks import SIZE, Image, PlainRow

Same = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
MAX_BATCH_SIZE = 4


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


def loaded(path: Path, **more: Any) -> YoloModel:
    """Our model on the same weights."""
    limits = {"max_batch_size": MAX_BATCH_SIZE, "num_threads": 2}
    return load({**operator_entry("random", path).to_config(), **limits, **more}, "cpu", no_progress)


def answered(answers: Answers) -> list[dict[str, Any]]:
    """The JSON object of each row, none of which may be an error."""
    for fragment in answers.fragments:
        assert isinstance(fragment, bytes), fragment
    return [orjson.loads(fragment) for fragment in answers.fragments]  # type: ignore[arg-type]


def predictions(answers: Answers) -> list[list[dict[str, Any]]]:
    return [each["predictions"] for each in answered(answers)]


def overlap(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    width = min(one["x2"], two["x2"]) - max(one["x1"], two["x1"])
    height = min(one["y2"], two["y2"]) - max(one["y1"], two["y1"])
    both = max(width, 0.0) * max(height, 0.0)
    area = sum((box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in (one, two)) - both
    return both / area if area > 0 else 0.0


def is_same(one: Mapping[str, Any], two: Mapping[str, Any], confidence: float, corner: float) -> bool:
    """Same class, confidence and box. Boxes without an area (clipped away, or a random network's) count by corners."""
    if one["class_id"] != two["class_id"] or abs(one["confidence"] - two["confidence"]) > confidence:
        return False
    furthest = max(abs(one["box"][key] - two["box"][key]) for key in one["box"])
    return furthest <= corner or overlap(one["box"], two["box"]) >= 0.99


def assert_same(
    found: list[dict[str, Any]],
    expected: list[dict[str, Any]],
    confidence: float = 0.01,
    corner: float = 0.01,
    besides: Same = lambda one, two: True,
) -> None:
    """Every expected box is found, none twice and none besides; `besides` compares what the task adds."""
    rest = list(found)
    for each in expected:
        match = next(
            (one for one in rest if is_same(one, each, confidence, corner) and besides(one, each)), None
        )
        assert match is not None, f"missing {each}"
        rest.remove(match)
    assert not rest


def assert_neighbours_do_not_matter(
    model: YoloModel, rows: Sequence[PlainRow], assert_alike: Callable[[Any, Any, PlainRow], None]
) -> None:
    """`assert_alike(together, alone, row)` for each of at least four rows, in batches of different company."""
    alone = [answered(model.infer([one]))[0] for one in rows]
    for order in ([0, 1, 2, 3], [2, 0, 1], [3, 2], [1, 1, 1, 1]):
        together = answered(model.infer([rows[index] for index in order]))
        for index, found in zip(order, together, strict=True):
            assert_alike(found, alone[index], rows[index])
