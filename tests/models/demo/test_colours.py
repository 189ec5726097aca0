import itertools

import numpy as np
import pytest

from models.demo.colours import COLOURS, colour_distance, vary_colour


def nearest(pixel: tuple[int, int, int]) -> str:
    return min(COLOURS, key=lambda name: float(colour_distance(np.array(pixel, np.uint8), COLOURS[name])))


def test_any_two_named_colours_are_far_apart() -> None:
    for one, two in itertools.combinations(COLOURS, 2):
        assert colour_distance(np.array(COLOURS[one], np.uint8), COLOURS[two]) > 150, (one, two)


@pytest.mark.parametrize("name", COLOURS)
def test_a_varied_colour_is_still_nearest_to_its_own_name(name: str) -> None:
    rng = np.random.default_rng(1)
    assert {nearest(vary_colour(rng, name)) for _ in range(200)} == {name}


def test_a_colour_outside_the_list_is_refused() -> None:
    with pytest.raises(KeyError):
        vary_colour(np.random.default_rng(1), "mauve")
