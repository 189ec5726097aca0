from __future__ import annotations

from typing import Any

import pytest

from bench.parity import CASES, Differences
from models.catalogue import CATALOGUE


def box(x1: float, class_id: int = 0, confidence: float = 0.5) -> dict[str, Any]:
    return {
        "class_id": class_id,
        "confidence": confidence,
        "box": {"x1": x1, "y1": 0.0, "x2": x1 + 10.0, "y2": 10.0},
    }


def test_the_worst_of_all_pairs_is_kept() -> None:
    seen = Differences()
    seen.compare([box(0.5), box(100.0, confidence=0.7)], [box(100.0, confidence=0.6), box(0.0)], (50, 200))
    assert seen.num_compared == 2
    assert seen.confidence == pytest.approx(0.1)
    assert seen.distance == pytest.approx(0.5)
    assert seen.iou == pytest.approx(95 / 105)


def test_outlines_and_points_count_too() -> None:
    square = [[0, 0], [20, 0], [20, 20], [0, 20]]
    half = [[0, 0], [10, 0], [10, 20], [0, 20]]
    seen = Differences()
    seen.compare([{**box(0.0), "polygon": half}], [{**box(0.0), "polygon": square}], (50, 50))
    assert seen.iou == pytest.approx(0.5, abs=0.05)
    seen.compare([{**box(0.0), "corners": square}], [{**box(0.0), "points": [[3, 0], *square[1:]]}], (50, 50))
    assert seen.distance == pytest.approx(3.0)


@pytest.mark.parametrize("found", [[], [box(0.0), box(0.0)], [box(0.0, class_id=1)]])
def test_an_answer_without_a_partner_is_no_figure(found: list[dict[str, Any]]) -> None:
    with pytest.raises(AssertionError):
        Differences().compare(found, [box(0.0)], (50, 50))


def test_every_row_of_the_catalogue_that_is_a_yolo_is_measured() -> None:
    rows = {entry.row for entry in CATALOGUE.values() if entry.family == "yolo"}
    assert rows <= {case.row for case in CASES}
