from __future__ import annotations

from pathlib import Path

import pytest

from models.catalogue import CATALOGUE
from models.parity import Parity, read, write


def test_a_figure_never_looks_better_than_it_was_measured() -> None:
    text = str(Parity("n", "random", 10, 0.9999999, 1.01e-6, 0.0123))
    assert text == "IoU ≥ 0.99999, confidence ± 2e-06, place ± 2e-02 px"
    assert str(Parity("n", "random", 10, worst_confidence=0.0)) == "confidence ± 0"
    assert str(Parity("n", "random", 10, 1.0, 1e-3)) == "IoU ≥ 1.00000, confidence ± 1e-03"


def test_what_is_not_measured_in_boxes_has_words() -> None:
    assert str(Parity("blip-vqa-base", text="50 of 50 answers are equal")) == "50 of 50 answers are equal"


def test_rows_that_were_not_measured_this_time_stay(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    words, figures = Parity("b", text="equal"), Parity("n", "random", 3, 0.99, 0.0, 0.5)
    write("here", {"blip": words}, path)
    write("there", {"yolo": figures}, path)
    assert read(path) == ("there", {"blip": words, "yolo": figures})


def test_every_yolo_of_the_catalogue_has_a_figure_that_is_good_enough() -> None:
    measured, parities = read()
    assert "ultralytics 8" in measured and "torch 2" in measured
    for row in {entry.row for entry in CATALOGUE.values() if entry.family == "yolo"}:
        parity = parities[row]
        assert parity.num_compared >= 20, row
        # A random network's smallest mask has some thirty pixels: one of them, and the overlap is 0.97.
        least = 0.95 if row.endswith("-seg") else 0.99
        assert parity.worst_iou is None or parity.worst_iou >= least, row
        assert parity.worst_confidence is not None and parity.worst_confidence <= 1e-3, row


def test_a_file_with_an_unknown_field_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "parity.json"
    path.write_text('{"measured": "", "rows": {"x": {"model": "x", "typo": 1}}}')
    with pytest.raises(TypeError):
        read(path)
