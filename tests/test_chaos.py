"""Short forms of `python -m bench.chaos`, over HTTP against the server's own process.

What must never happen is checked here; how fast things are depends on the machine and is checked by the long forms.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.chaos.checks import Check
from bench.chaos.runs.crash_loop import crash_loop
from bench.chaos.runs.endurance import endurance
from bench.chaos.runs.overload import overload
from bench.chaos.runs.poison import poison
from bench.chaos.runs.storm import kill, mixed


def assert_harmless(outcome: dict[str, Any], *, but: str = "") -> None:
    """Every check passed that does not depend on the machine's speed."""
    checks: list[Check] = outcome["checks"]
    failed = [check for check in checks if not check.passed and not check.is_speed and check.name != but]
    assert not failed, outcome


def test_killing_workers_costs_nobody_an_answer() -> None:
    outcome = kill(seconds=4.0, interval=0.5, calm_seconds=0.5, real=False)
    assert_harmless(outcome)
    assert outcome["deaths"]["sigkill"] >= 3
    assert outcome["requests"] >= 32


@pytest.mark.slow
def test_killing_workers_of_a_real_model_costs_nobody_an_answer() -> None:
    outcome = kill(seconds=12.0, interval=4.0, calm_seconds=2.0, real=True)
    assert_harmless(outcome)
    assert outcome["deaths"]["sigkill"] >= 1


def test_faults_of_every_kind_cost_nobody_an_answer() -> None:
    outcome = mixed(seconds=5.0, interval=0.5, calm_seconds=0.5)
    assert_harmless(outcome, but="innocents condemned")
    assert len(outcome["faults"]) >= 3


def test_poison_fails_alone_and_once() -> None:
    outcome = poison(num_requests=300, every=150)
    assert_harmless(outcome)
    assert outcome["poison"] == 2


def test_overload_is_refused_and_the_rest_is_answered() -> None:
    outcome = overload(seconds=2.0, peak_seconds=1.0, real=False)
    assert_harmless(outcome)
    assert outcome["outcomes"]["queue_full"] > outcome["outcomes"]["right"]


def test_bad_and_broken_off_requests_leave_nothing_behind() -> None:
    outcome = endurance(num_requests=1500)
    assert_harmless(outcome, but="resident bytes per request, 95 % interval")
    assert outcome["growth_bytes_per_request"] < 1000, (
        "the allocator is still finding its size in so short a run"
    )


def test_a_server_that_keeps_its_requests_is_found_out() -> None:
    outcome = endurance(num_requests=1500, leaks=True)
    (memory,) = [check for check in outcome["checks"] if check.name.startswith("resident bytes")]
    assert not memory.passed
    assert outcome["growth_bytes_per_request"] > 1000


def test_a_crash_loop_beside_it_costs_a_healthy_model_no_answer() -> None:
    outcome = crash_loop(idle_seconds=1.0, num_pairs=1, pair_seconds=1.0)
    assert_harmless(outcome)
    assert outcome["requests"] >= 8
