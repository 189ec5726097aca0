from __future__ import annotations

import pytest

from pool.breaker import Breaker
from pool.limits import Limits

LIMITS = Limits(breaker_failures=3, breaker_window=60.0, breaker_retry=30.0)


@pytest.fixture
def opened() -> Breaker:
    """Open since moment 2, on trial from 32 on."""
    breaker = Breaker(LIMITS)
    for moment in range(3):
        breaker.failed(0, float(moment))
    return breaker


def test_it_opens_after_so_many_deaths_in_a_while(opened: Breaker) -> None:
    assert opened.is_open
    assert opened.retry_after(2.0) == 30.0
    assert opened.start_delay(0, 2.0) == 30.0


def test_deaths_far_apart_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for moment in range(9):
        breaker.failed(0, moment * 31.0)
    assert not breaker.is_open
    assert breaker.start_delay(0, 300.0) == 0.0


def test_progress_forgets_what_was_before() -> None:
    breaker = Breaker(LIMITS)
    for moment in range(9):
        breaker.failed(0, float(moment))
        if moment % 2:
            breaker.progressed()
    assert not breaker.is_open


def test_one_replica_at_a_time_may_try_after_the_wait(opened: Breaker) -> None:
    assert opened.start_delay(1, 33.0) == 0.0
    assert opened.start_delay(0, 33.0) > 0.0
    assert opened.start_delay(1, 33.1) == 0.0
    assert opened.retry_after(33.0) == 0.0


def test_each_failed_trial_doubles_the_wait_up_to_five_minutes(opened: Breaker) -> None:
    now, waits = 2.0, []
    for _ in range(5):
        waits.append(opened.retry_after(now))
        now += waits[-1]
        assert opened.start_delay(0, now) == 0.0
        opened.failed(0, now)
    assert waits == [30.0, 60.0, 120.0, 240.0, 300.0]


def test_only_the_one_on_trial_fails_the_trial(opened: Breaker) -> None:
    assert opened.start_delay(1, 33.0) == 0.0
    opened.failed(0, 34.0)
    assert opened.start_delay(1, 34.0) == 0.0


def test_a_batch_done_closes_it(opened: Breaker) -> None:
    opened.start_delay(0, 33.0)
    opened.progressed()
    assert not opened.is_open
    assert opened.start_delay(1, 33.0) == 0.0
    for moment in range(3):
        opened.failed(0, 40.0 + moment)
    assert opened.retry_after(42.0) == 30.0, "the wait starts anew"


def test_a_forkservers_death_counts_once_however_many_workers_it_takes_along() -> None:
    breaker = Breaker(LIMITS)
    for moment in (0.0, 10.0):
        for replica in range(8):
            breaker.failed(replica, moment + 0.01 * replica, is_forkservers=True)
        assert not breaker.is_open
    breaker.failed(0, 20.0, is_forkservers=True)
    assert breaker.is_open
