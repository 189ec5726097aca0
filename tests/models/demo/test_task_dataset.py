from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.demo.scenes import Scene, draw_scene
from models.demo.shapes import SHAPES
from models.demo.task_dataset import (
    LONG_SHAPES,
    corners,
    keypoints,
    label_lines,
    outline,
    scene_settings,
    write_split,
)


def scene(task: str) -> Scene:
    return draw_scene(11, scene_settings(task))


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_every_object_has_a_line_with_its_class_and_shares_of_the_picture(task: str) -> None:
    drawn = scene(task)
    lines = label_lines(drawn, task).splitlines()
    assert len(lines) == len(drawn.objects) > 0
    for line, thing in zip(lines, drawn.objects, strict=True):
        number, *numbers = map(float, line.split())
        assert SHAPES[int(number)] == thing.shape
        if task == "pose":
            assert numbers[6::3] == [2.0] * 3
        assert all(-0.2 <= value <= 1.2 for value in (numbers[:4] if task == "pose" else numbers))


def test_an_outline_lies_on_the_shapes_border() -> None:
    drawn = scene("segment")
    for index, thing in enumerate(drawn.objects):
        points = outline(drawn, index)
        assert np.abs(points.min(0) - thing.box[:2]).max() <= 1
        assert np.abs(points.max(0) - thing.box[2:]).max() <= 1


def test_a_turned_rectangle_holds_the_shape() -> None:
    drawn = scene("obb")
    for index, thing in enumerate(drawn.objects):
        assert thing.shape in LONG_SHAPES
        low, high = corners(drawn, index).min(0), corners(drawn, index).max(0)
        assert (low <= np.array(thing.box[:2]) + 1).all() and (high >= np.array(thing.box[2:]) - 1).all()


def test_keypoints_are_the_middle_the_top_and_the_bottom() -> None:
    drawn = scene("pose")
    for index, thing in enumerate(drawn.objects):
        middle, top, bottom = keypoints(drawn, index)
        assert thing.box[0] <= middle[0] <= thing.box[2]
        assert (top[1], bottom[1]) == (thing.box[1] + 0.5, thing.box[3] - 0.5)


def test_pictures_to_classify_lie_in_the_folder_of_their_shape(tmp_path: Path) -> None:
    write_split(tmp_path, "classify", "val", range(5), num_processes=1)
    folders = sorted(path.name for path in (tmp_path / "val").iterdir())
    assert folders == [f"{number}-{shape}" for number, shape in enumerate(SHAPES)]
    for path in (tmp_path / "val").rglob("*.jpg"):
        (thing,) = draw_scene(int(path.stem), scene_settings("classify")).objects
        assert path.parent.name.endswith(f"-{thing.shape}")
