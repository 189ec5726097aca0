"""Growth is told from noise."""

from __future__ import annotations

import numpy as np
import pytest

from bench.chaos.slope import slope

X = list(range(400))


def test_noise_is_no_growth() -> None:
    noise = np.random.default_rng(1).normal(0, 100, len(X))
    assert not slope(X, list(noise)).is_growth


def test_a_small_rise_in_much_noise_is_found() -> None:
    noise = np.random.default_rng(1).normal(0, 100, len(X))
    found = slope(X, [2 * x + float(error) for x, error in zip(X, noise, strict=True)])
    assert found.is_growth
    assert found.low < 2 < found.high


def test_shrinking_is_no_growth() -> None:
    assert not slope(X, [-x for x in X]).is_growth


def test_too_few_measurements_say_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope(X[:39], X[:39])
