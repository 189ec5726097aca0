"""Which requests had the server to themselves, and what the simulated queue makes of that."""

from __future__ import annotations

import pytest

from bench.load import Load, Tally
from bench.queue_simulation import simulate
from bench.tail import began_alone, service_times, simulated


def _tally(*spans: tuple[float, float]) -> Tally:
    """Answers of which each was computed from a moment on, for so many seconds."""
    tally = Tally()
    for began, seconds in spans:
        tally.batches.append((1, {"decode": 0.0, "infer": seconds, "post": 0.0}))
        tally.answered_at.append(began + seconds)
    return tally


def test_alone_is_what_begins_while_nothing_is_computed() -> None:
    tally = _tally((0.0, 2.0), (1.0, 2.0), (2.5, 1.0), (4.0, 1.0))
    assert began_alone(tally) == [True, False, False, True]


def test_answers_need_not_come_in_the_order_of_their_beginnings() -> None:
    assert began_alone(_tally((1.0, 0.5), (0.0, 3.0), (5.0, 1.0))) == [False, True, True]


def test_service_times_alone_and_beside_others_are_drawn_apart() -> None:
    beside, alone = service_times(_tally((0.0, 2.0), (1.0, 3.0), (9.0, 2.0)))
    assert alone is not None
    assert (beside(1), alone(1)) == (3.0, 2.0)


def test_where_none_was_alone_there_is_one_kind_of_service_time() -> None:
    times, alone = service_times(_tally((0.0, 2.0), (9.0, 2.0)))
    assert alone is None
    assert times(1) == 2.0


def test_a_simulated_batch_is_alone_only_with_all_replicas_free_and_nothing_else_waiting() -> None:
    latencies = simulate([0.0, 1.0, 20.0], 2, 1, lambda size: 10.0, lambda size: 4.0)
    assert latencies == [4.0, 10.0, 4.0]
    assert simulate([0.0, 0.0], 1, 1, lambda size: 10.0, lambda size: 4.0) == [10.0, 14.0]


def test_the_simulation_has_as_many_latencies_as_were_due_after_the_warm_up() -> None:
    tally = _tally(*((10.0 * number, 0.01) for number in range(20)))
    found = simulated(tally, Load(1, 5.0, 10.0, 2.0), 2, 1)
    assert found["p50"] == pytest.approx(0.01)
