from __future__ import annotations

import pytest

from pool.backoff import Backoff


def test_the_first_death_costs_no_wait_and_later_ones_double_up_to_a_bound() -> None:
    backoff = Backoff(seed=1)
    delays = []
    for _ in range(12):
        backoff.failed()
        delays.append(backoff.delay())
    assert delays[0] == 0
    for delay, nominal in zip(delays[1:], [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30], strict=True):
        assert 0.8 * nominal <= delay <= 1.2 * nominal


def test_a_failed_load_always_waits() -> None:
    backoff = Backoff()
    backoff.failed()
    assert backoff.delay(is_load=True) == pytest.approx(0.25, rel=0.21)


def test_progress_starts_the_count_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.failed()
    backoff.progressed()
    backoff.failed()
    assert backoff.delay() == 0


def test_delays_differ_so_that_replicas_do_not_start_in_step() -> None:
    delays = set()
    for seed in range(5):
        backoff = Backoff(seed)
        backoff.failed()
        backoff.failed()
        delays.add(backoff.delay())
    assert len(delays) == 5
