import numpy as np
import pytest

from models.demo.backgrounds import BACKGROUNDS, draw_background


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_every_background_fills_the_picture_and_follows_its_seed(kind: str) -> None:
    one = draw_background(np.random.default_rng(5), kind, 64, 48)
    two = draw_background(np.random.default_rng(5), kind, 64, 48)
    other = draw_background(np.random.default_rng(6), kind, 64, 48)
    assert one.shape == (48, 64, 3) and one.dtype == np.uint8
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_an_unknown_background_is_refused() -> None:
    with pytest.raises(KeyError):
        draw_background(np.random.default_rng(0), "forest", 64, 48)
