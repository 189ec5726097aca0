from __future__ import annotations

import pytest

from pool.rate import DrainRate


def test_nothing_is_promised_before_the_first_batch() -> None:
    assert DrainRate().wait(100, 2) == 0


def test_the_wait_follows_rows_and_replicas() -> None:
    rate = DrainRate()
    rate.observe(4, 0.4)
    assert rate.wait(10, 1) == pytest.approx(1.0)
    assert rate.wait(10, 2) == pytest.approx(0.5)
    assert rate.wait(10, 0) == pytest.approx(1.0)


def test_the_rate_follows_a_change_but_not_one_outlier() -> None:
    rate = DrainRate()
    rate.observe(1, 0.1)
    rate.observe(1, 1.0)
    assert rate.wait(1, 1) < 0.2
    for _ in range(100):
        rate.observe(1, 1.0)
    assert rate.wait(1, 1) == pytest.approx(1.0, rel=0.01)
