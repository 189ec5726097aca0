from __future__ import annotations

import pytest

from pool.placement import Placement
from pool.replica import _ALLOWED, Replica, State


def test_a_transition_outside_the_table_is_refused_and_changes_nothing() -> None:
    changes: list[State] = []
    replica = Replica(0, Placement(), 1, lambda: changes.append(replica.state))
    with pytest.raises(RuntimeError, match="BACKOFF to READY"):
        replica.become(State.READY)
    assert replica.state is State.BACKOFF
    replica.become(State.STARTING)
    replica.become(State.STARTING)
    replica.become(State.READY)
    assert changes == [State.STARTING, State.READY]


def test_every_state_with_a_process_can_die_and_only_dead_ones_start_again() -> None:
    with_process = {State.STARTING, State.READY, State.BUSY, State.DRAINING}
    assert {s for s, following in _ALLOWED.items() if State.DEAD in following} == with_process
    assert {s for s, following in _ALLOWED.items() if State.BACKOFF in following} == {State.DEAD}
    assert not _ALLOWED[State.STOPPED]


def test_every_worker_starts_without_what_was_learnt_of_the_one_before() -> None:
    replica = Replica(0, Placement(), 1, lambda: None)
    replica.max_rows, replica.is_examination_due = 2, True
    replica.connect(object(), 1)  # type: ignore[arg-type]
    assert replica.max_rows is None
    assert not replica.is_examination_due
