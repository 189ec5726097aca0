import numpy as np
import pytest

from models.demo.shapes import SHAPES, Outline, outline, place, rasterise


def polygon_area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def area(shape: Outline) -> float:
    return polygon_area(shape.outer) - (0 if shape.hole is None else polygon_area(shape.hole))


def placed(shape: str, seed: int) -> Outline:
    rng = np.random.default_rng(seed)
    return place(outline(rng, shape), rng.uniform(20, 120), rng.uniform(0, 6), (rng.uniform(-9, 99), 70.3))


def test_the_class_order_that_the_weights_were_trained_with_is_kept() -> None:
    assert SHAPES == (
        "circle", "square", "triangle", "hexagon", "star", "cross", "heart", "ring", "crescent", "arrow",
    )  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_outline_lies_in_the_unit_circle_and_nearly_fills_it(shape: str) -> None:
    for seed in range(20):
        reach = np.hypot(*outline(np.random.default_rng(seed), shape).outer.T).max()
        assert 0.94 < reach < 1 + 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_covers_the_area_of_its_outline(shape: str) -> None:
    for seed in range(8):
        target = placed(shape, seed)
        covered = rasterise(target).alpha.sum() / 255
        assert covered == pytest.approx(area(target), rel=0.03, abs=15)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_reaches_as_far_as_its_outline_but_for_the_sharpest_tips(shape: str) -> None:
    # Sharp tips end a little early: their last pixels are covered by less than half.
    for seed in range(8):
        target = placed(shape, seed)
        mask = rasterise(target)
        ys, xs = np.nonzero(mask.alpha >= 128)
        low, high = target.outer.min(axis=0), target.outer.max(axis=0)
        reached_low = np.array([xs.min() + mask.left, ys.min() + mask.top])
        reached_high = np.array([xs.max() + 1 + mask.left, ys.max() + 1 + mask.top])
        assert (reached_low >= low - 1).all() and (reached_low <= low + 2.5).all()
        assert (reached_high <= high + 1).all() and (reached_high >= high - 2.5).all()


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(KeyError):
        outline(np.random.default_rng(0), "pentagon")
