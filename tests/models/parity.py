"""What it means that two answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from bench.library import Library as Library
from bench.library import boxes as boxes
from bench.library import overlap
from models.answers import Answers, no_progress
from models.catalogue import operator_entry
from models.yolo import YoloModel, load
from tests.models.networks import PlainRow

Same = Callable[[Mapping[str, Any], Mapping[str, Any]], bool]
MAX_BATCH_SIZE = 4


def loaded(path: Path, **more: Any) -> YoloModel:
    """Our model on the same weights."""
    limits = {"max_batch_size": MAX_BATCH_SIZE, "num_threads": 1}
    return load({**operator_entry("random", path).to_config(), **limits, **more}, "cpu", no_progress)


def answered(answers: Answers) -> list[dict[str, Any]]:
    """The JSON object of each row, none of which may be an error."""
    for fragment in answers.fragments:
        assert isinstance(fragment, bytes), fragment
    return [orjson.loads(fragment) for fragment in answers.fragments]  # type: ignore[arg-type]


def predictions(answers: Answers) -> list[list[dict[str, Any]]]:
    return [each["predictions"] for each in answered(answers)]


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
