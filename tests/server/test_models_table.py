from __future__ import annotations

from models.catalogue import CATALOGUE
from models.parity import read
from server.models_table import columns, input_text, models_table


def test_every_model_is_in_one_row_with_its_task() -> None:
    lines = [line for line in models_table().splitlines() if line.startswith("| `")]
    assert len(lines) == len({entry.row for entry in CATALOGUE.values()})
    by_first = {line.split("`")[1]: line for line in lines}
    assert by_first["yolov8n"].startswith(
        "| `yolov8n`, `s`, `m`, `l`, `x` | detect | 640, letterbox | boxes |"
    )
    assert by_first["yolo11n-obb"].split(" | ")[2] == "1024, letterbox"
    assert by_first["yolov9t"].startswith("| `yolov9t`, `s`, `m`, `c`, `e` | detect")


def test_a_rows_figure_is_the_files() -> None:
    measured, parities = read()
    text = models_table()
    assert f"Measured on: {measured}." in text
    for row, parity in parities.items():
        assert str(parity) in text, row


def test_inputs_are_said_with_how_a_picture_gets_there() -> None:
    assert input_text(CATALOGUE["rtdetr-l"]) == "640, stretched"
    assert input_text(CATALOGUE["yolov8n-cls"]) == "224, shortest edge, centre crop"
    assert input_text(CATALOGUE["blip-vqa-base"]) == "384, stretched, bicubic"


def test_columns_stand_under_each_other() -> None:
    assert columns([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]
