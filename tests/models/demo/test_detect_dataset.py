from pathlib import Path

import pytest
from PIL import Image

from models.demo.detect_dataset import label_lines, write_index, write_split
from models.demo.scenes import draw_scene
from models.demo.shapes import SHAPES


def test_labels_give_back_the_boxes_to_a_thousandth_of_a_pixel() -> None:
    scene = draw_scene(8)
    height, width = scene.image.shape[:2]
    lines = label_lines(scene).splitlines()
    assert len(lines) == len(scene.objects)
    for line, thing in zip(lines, scene.objects, strict=True):
        number, *rest = line.split()
        x, y, w, h = (float(value) for value in rest)
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        assert SHAPES[int(number)] == thing.shape
        assert box == pytest.approx(thing.box, abs=2e-3)


def test_a_split_holds_a_picture_and_a_label_file_for_each_seed(tmp_path: Path) -> None:
    num_objects = write_split(tmp_path, "val", range(20, 24), num_processes=1)
    assert num_objects == sum(len(draw_scene(seed).objects) for seed in range(20, 24))
    for seed in range(20, 24):
        with Image.open(tmp_path / "images" / "val" / f"{seed}.jpg") as picture:
            assert picture.size == draw_scene(seed).image.shape[1::-1]
        assert (tmp_path / "labels" / "val" / f"{seed}.txt").read_text() == label_lines(draw_scene(seed))


def test_the_index_names_the_classes_in_their_fixed_order(tmp_path: Path) -> None:
    text = write_index(tmp_path).read_text()
    assert [line.split(": ")[1] for line in text.splitlines() if line.startswith("  ")] == list(SHAPES)
