import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from models.demo.backgrounds import BACKGROUNDS
from models.demo.colours import COLOURS, colour_distance
from models.demo.scenes import (
    SAMPLE_SEEDS,
    SIZES,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VAL_SEEDS,
    Scene,
    SceneSettings,
    draw_scene,
)  # fmt: skip
from models.demo.shapes import SHAPES


@pytest.fixture(scope="module")
def scenes() -> Sequence[Scene]:
    return [draw_scene(seed) for seed in range(60)]


def test_the_same_seed_gives_the_same_pixels_and_truth() -> None:
    for seed in (3, 14, 15):
        one, two = draw_scene(seed), draw_scene(seed)
        assert np.array_equal(one.image, two.image)
        assert one.objects == two.objects
        assert one.jpeg() == two.jpeg()


def test_another_seed_gives_another_scene() -> None:
    assert draw_scene(1).objects != draw_scene(2).objects


def test_the_seed_ranges_are_far_apart() -> None:
    starts = [TRAIN_SEEDS, VAL_SEEDS, TEST_SEEDS, SAMPLE_SEEDS]
    assert min(np.diff(starts)) >= 1_000_000


def test_boxes_are_tight_around_the_visible_pixels_and_inside_the_picture(scenes: Sequence[Scene]) -> None:
    for scene in scenes:
        height, width = scene.image.shape[:2]
        for index, thing in enumerate(scene.objects, 1):
            x1, y1, x2, y2 = thing.box
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
            own = scene.owner == index
            inside = own[y1:y2, x1:x2]
            assert inside.sum() == own.sum(), "pixels of the shape lie outside its box"
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_the_picture_changes_inside_the_boxes_and_nowhere_else() -> None:
    # Independent of the owner map: on a plain background whatever differs from it belongs to a shape, its
    # anti-aliased rim (a pixel) or its shadow (a sixteenth of its size, and only darker).
    plain = [scene for seed in range(220) if (scene := draw_scene(seed, _SMALL)).background == "flat"]
    num_checked = 0
    for scene in plain:
        background = np.median(scene.image[scene.owner == 0], axis=0)
        brighter = (scene.image.astype(int) - background).max(axis=2) > 60
        for thing in scene.objects:
            x1, y1, x2, y2 = thing.box
            brighter[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = False
            num_checked += 1
        assert not brighter.any()
    assert num_checked > 20


_SMALL = SceneSettings(sizes=((160, 120),), max_objects=3, min_extent=0.25)


def test_enough_of_every_object_stays_visible(scenes: Sequence[Scene]) -> None:
    shares = [thing.visible for scene in scenes for thing in scene.objects]
    assert min(shares) >= SceneSettings().min_visible
    assert any(share < 1 for share in shares), "no scene has an overlap"


def test_the_colour_named_is_the_colour_seen(scenes: Sequence[Scene]) -> None:
    num_right = num_objects = 0
    for scene in scenes:
        for index, thing in enumerate(scene.objects, 1):
            seen = np.median(scene.image[scene.owner == index], axis=0).astype(np.uint8)
            nearest = min(COLOURS, key=lambda name: float(colour_distance(seen, COLOURS[name])))
            num_right += nearest == thing.colour
            num_objects += 1
    assert num_right == num_objects


def test_every_class_colour_background_and_size_occurs(scenes: Sequence[Scene]) -> None:
    things = [thing for scene in scenes for thing in scene.objects]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {scene.image.shape[1::-1] for scene in scenes} == set(SIZES)


def test_the_number_of_objects_stays_within_the_settings() -> None:
    counts = {
        len(draw_scene(seed, SceneSettings(min_objects=0, max_objects=2)).objects) for seed in range(30)
    }
    assert counts == {0, 1, 2}


def test_settings_limit_the_shapes_and_colours() -> None:
    settings = SceneSettings(shapes=("ring",), colours=("white", "black"))
    things = [thing for seed in range(10) for thing in draw_scene(seed, settings).objects]
    assert {thing.shape for thing in things} == {"ring"}
    assert {thing.colour for thing in things} <= {"white", "black"}


def test_the_jpeg_file_shows_the_scene(scenes: Sequence[Scene]) -> None:
    shown = np.asarray(Image.open(io.BytesIO(scenes[0].jpeg())))
    assert shown.shape == scenes[0].image.shape
    assert np.abs(shown.astype(int) - scenes[0].image).mean() < 12


def test_the_centre_is_the_middle_of_the_box(scenes: Sequence[Scene]) -> None:
    thing = scenes[0].objects[0]
    assert thing.centre == ((thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2)
