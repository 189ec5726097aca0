from __future__ import annotations

import pytest

from server.rate_limit import MAX_BUCKETS, RateLimit


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1e6

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_passes_and_then_the_rate(clock: Clock) -> None:
    limit = RateLimit(2.0, 5, clock)
    assert [limit.take("a") for _ in range(6)] == [0, 0, 0, 0, 0, 0.5]
    clock.now += 0.25
    assert limit.take("a") == 0.25, "what is refused costs nothing"
    clock.now += 0.25
    assert [limit.take("a"), limit.take("a")] == [0, 0.5]


@pytest.mark.parametrize("rate", [0.1, 3.0, 7.0, 1000.0])
def test_over_a_long_time_exactly_the_rate_passes(clock: Clock, rate: float) -> None:
    limit = RateLimit(rate, 10, clock)
    start = clock.now
    passed = 0
    for step in range(20_000):
        clock.now = start + step / rate / 4  # four times as often as allowed
        passed += limit.take("a") == 0
    assert abs(passed - (10 + 20_000 / 4)) <= 1


def test_who_waits_as_long_as_told_passes(clock: Clock) -> None:
    limit = RateLimit(3.0, 1, clock)
    for _ in range(100):
        assert limit.take("a") == 0
        wait = limit.take("a")
        assert wait > 0
        clock.now += wait + 1e-6


def test_one_does_not_use_up_anothers(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, clock)
    assert [limit.take("a"), limit.take("a"), limit.take("b"), limit.take("b")] == [0, 1.0, 0, 1.0]


def test_a_rest_fills_no_more_than_the_burst(clock: Clock) -> None:
    limit = RateLimit(1.0, 3, clock)
    limit.take("a")
    clock.now += 1e9
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 1.0]


def test_a_rate_of_ones_own_is_stronger_and_zero_is_none(clock: Clock) -> None:
    limit = RateLimit(1.0, 1, clock)
    assert [limit.take("fast", 4.0), limit.take("fast", 4.0)] == [0, 0.25]
    assert {limit.take("free", 0.0) for _ in range(100)} == {0}
    unlimited = RateLimit(0.0, 1, clock)
    assert {unlimited.take("a") for _ in range(100)} == {0} and len(unlimited) == 0
    assert [unlimited.take("slow", 1.0), unlimited.take("slow", 1.0)] == [0, 1.0]


def test_what_is_remembered_is_bounded_and_the_busy_one_is_not_forgotten(clock: Clock) -> None:
    limit = RateLimit(0.001, 1, clock)
    limit.take("busy")
    for number in range(3 * MAX_BUCKETS):
        limit.take(str(number))
        if number % 1000 == 0:
            assert limit.take("busy") > 0
    assert len(limit) == MAX_BUCKETS


def test_more_requests_than_were_left_are_owed() -> None:
    now = [0.0]
    limit = RateLimit(2.0, 4, lambda: now[0])
    assert limit.take("a") == 0.0
    limit.charge("a", 9)
    assert limit.take("a") == pytest.approx(3.5), "6 are owed, and one is asked for"
    assert limit.take("b") == 0.0
    now[0] = 3.6
    assert limit.take("a") == 0.0
