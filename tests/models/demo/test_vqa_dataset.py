from pathlib import Path

import numpy as np
import pytest

from models.demo import scenes
from models.demo.questions import Question, Thing, things
from models.demo.vqa_architecture import GRID, INPUT_SIZE, PATCH_SIZE
from models.demo.vqa_dataset import (
    IGNORED,
    MAX_OBJECTS,
    PADDING,
    SIZES,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VAL_SEEDS,
    Pictures,
    draw_pictures,
    keep_pictures,
    kept_pictures,
    pack,
    turn_grid,
    turn_thing,
    vqa_scene,
)

_FIRST_SEED, _COUNT = 78_000_000, 24


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw_pictures(_FIRST_SEED, _COUNT)


def test_the_sets_are_apart_from_each_other_and_from_the_detectors() -> None:
    others = [scenes.TRAIN_SEEDS, scenes.VAL_SEEDS, scenes.TEST_SEEDS, scenes.SAMPLE_SEEDS]
    assert min(np.diff(sorted([TRAIN_SEEDS, VAL_SEEDS, TEST_SEEDS, *others]))) >= 1_000_000


def test_pictures_are_the_scenes_of_their_seeds(pictures: Pictures) -> None:
    again = draw_pictures(_FIRST_SEED + 3, 2)
    assert np.array_equal(again.pixels, pictures.pixels[3:5])
    assert again.things == pictures.things[3:5]
    assert pictures.things[3] == things(vqa_scene(_FIRST_SEED + 3))


def test_kept_pictures_are_the_drawn_ones(pictures: Pictures, tmp_path: Path) -> None:
    keep_pictures(tmp_path / "pictures.npz", pictures)
    kept = kept_pictures(tmp_path / "pictures.npz")
    assert np.array_equal(kept.pixels, pictures.pixels)
    assert np.array_equal(kept.shares, pictures.shares)
    assert kept.things == pictures.things


def test_an_enlarged_scene_is_as_much_larger() -> None:
    height, width = vqa_scene(_FIRST_SEED, enlargement=2).image.shape[:2]
    assert (width // 2, height // 2) in SIZES


def test_every_pixel_of_a_patch_has_one_owner(pictures: Pictures) -> None:
    assert pictures.pixels.shape == (_COUNT, INPUT_SIZE, INPUT_SIZE, 3)
    assert pictures.shares.shape == (_COUNT, GRID, GRID, 1 + MAX_OBJECTS)
    assert (pictures.shares.sum(axis=-1, dtype=int) == PATCH_SIZE**2).all()
    for shares, seen in zip(pictures.shares, pictures.things, strict=True):
        assert [bool(column.any()) for column in shares[..., 1:].transpose(2, 0, 1)] == [
            number < len(seen) for number in range(MAX_OBJECTS)
        ]


@pytest.mark.parametrize("number", range(8))
def test_a_turned_picture_and_its_things_agree(pictures: Pictures, number: int) -> None:
    turned = turn_grid(pictures.shares, number)
    for shares, seen in zip(turned, pictures.things, strict=True):
        for index, thing in enumerate(seen, 1):
            moved = turn_thing(thing, number)
            weights = shares[..., index].astype(float)
            middles = (np.arange(GRID) + 0.5) / GRID
            assert abs((weights.sum(axis=0) * middles).sum() / weights.sum() - moved.x) < 0.12
            assert abs((weights.sum(axis=1) * middles).sum() / weights.sum() - moved.y) < 0.12


def test_the_eight_turns_differ() -> None:
    grid = np.arange(9).reshape(1, 3, 3)
    assert len({turn_grid(grid, number).tobytes() for number in range(8)}) == 8
    thing = Thing("star", "red", 0.1, 0.3)
    assert len({turn_thing(thing, number) for number in range(8)}) == 8


def test_packed_questions_keep_their_own_positions_groups_and_targets() -> None:
    one = Question("colour", "what colour is the star?", "red")
    two = Question("where", "where is the ring?", "top left")
    packed = pack([[one, two], [two]])
    assert packed.question_groups.tolist() == [[1] * 8 + [2] * 7, [1] * 7 + [0] * 8]
    assert packed.question_positions[0].tolist() == [*range(8), *range(7)]
    assert packed.answer_groups.tolist() == [[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]]
    assert packed.targets[0, 0] == packed.answer_ids[0, 1], "a target is the next token"
    assert packed.targets[1, 3:].tolist() == [IGNORED] * 2


def test_padding_is_looked_at_by_no_word_of_its_question() -> None:
    question = Question("colour", "what colour is the star?", "red")
    packed = pack([[question] * 40], np.random.default_rng(1))
    is_padding = packed.question_ids == PADDING
    assert is_padding.any()
    assert (packed.question_keys[is_padding] == 0).all()
    assert (packed.question_keys[~is_padding] == packed.question_groups[~is_padding]).all()
    assert (packed.question_groups > 0).all()
