from __future__ import annotations

from pool.limits import Limits
from pool.pace import Pace

LIMITS = Limits(min_batch_timeout=1.0, first_batch_timeout=20.0, batch_timeout=30.0)


def test_the_first_batch_of_each_shape_has_its_own_limit() -> None:
    pace = Pace(LIMITS)
    pace.observe(("", 1), 0.01, is_first=False)
    assert pace.timeout(("", 1), is_first=False) == 1.0
    assert pace.timeout(("", 2), is_first=False) == pace.timeout(("key", 1), is_first=False) == 20.0


def test_the_limit_is_a_multiple_of_the_slowest_within_bounds() -> None:
    pace = Pace(LIMITS)
    for seconds in (0.5, 2.0, 0.5):
        pace.observe(("", 1), seconds, is_first=False)
    assert 9.0 < pace.timeout(("", 1), is_first=False) <= 10.0
    pace.observe(("", 1), 10.0, is_first=False)
    assert pace.timeout(("", 1), is_first=False) == 30.0


def test_a_slow_batch_is_forgotten_after_many_fast_ones() -> None:
    pace = Pace(LIMITS)
    pace.observe(("", 1), 5.0, is_first=False)
    for _ in range(200):
        pace.observe(("", 1), 0.1, is_first=False)
    assert pace.timeout(("", 1), is_first=False) == 1.0


def test_only_so_many_shapes_are_remembered() -> None:
    pace = Pace(LIMITS)
    for number in range(1100):
        pace.observe((f"{number}", 1), 0.1, is_first=False)
    assert pace.timeout(("0", 1), is_first=False) == 20.0
    assert pace.timeout(("1099", 1), is_first=False) == 1.0


def test_the_first_of_a_shape_in_a_worker_is_measured_by_other_firsts() -> None:
    pace = Pace(LIMITS)
    pace.observe(("", 1), 2.0, is_first=True)
    assert pace.timeout(("", 1), is_first=False) == 10.0, "nothing better is known"
    for _ in range(200):
        pace.observe(("", 1), 0.01, is_first=False)
    assert pace.timeout(("", 1), is_first=False) == 1.0
    assert pace.timeout(("", 1), is_first=True) == 10.0


def test_a_key_that_is_given_patience_has_so_many_times_longer() -> None:
    pace = Pace(
        Limits(min_batch_timeout=1.0, first_batch_timeout=20.0, batch_timeout=30.0, patience={"slow": 5.0})
    )
    assert (
        pace.timeout(("slow", 1), is_first=False) == 100.0 and pace.timeout(("", 1), is_first=False) == 20.0
    )
    pace.observe(("slow", 1), 0.1, is_first=False)
    assert pace.timeout(("slow", 1), is_first=False) == 5.0
    pace.observe(("slow", 1), 100.0, is_first=False)
    assert pace.timeout(("slow", 1), is_first=False) == 150.0
