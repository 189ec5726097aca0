from __future__ import annotations

from pathlib import Path

from models.accuracy import MAX_LOSS, Accuracy, loss, points_lost, read, write


def row(runtime: str, precision: str, score: float, **more: object) -> Accuracy:
    return Accuracy("m", runtime, precision, "mAP50-95", score, 10, **more)  # type: ignore[arg-type]


def test_rows_are_replaced_by_their_place_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    write("one", [row("torch", "fp32", 0.9), row("openvino", "fp32", 0.8)], path)
    write("two", [row("openvino", "fp32", 0.85), row("torch", "fp32", 0.7, variant="reduced")], path)
    measured, rows = read(path)
    assert measured == "two"
    assert {each.place[1:]: each.score for each in rows} == {
        ("torch", "fp32", ""): 0.9,
        ("torch", "fp32", "reduced"): 0.7,
        ("openvino", "fp32", ""): 0.85,
    }


def test_points_are_hundredths_below_pytorch_in_fp32() -> None:
    rows = [row("torch", "fp32", 0.9), row("openvino", "bf16", 0.893)]
    lost = points_lost(rows[1], rows)
    assert lost is not None
    assert round(lost, 6) == 0.7
    assert points_lost(rows[1], rows[1:]) is None


def test_what_is_published_lets_openvino_be_chosen() -> None:
    for precision in ("fp32", "bf16"):
        lost = loss("shapes-detect", "openvino", precision)
        assert lost is not None
        assert lost <= MAX_LOSS
    assert loss("shapes-detect", "openvino", "fp8") is None
