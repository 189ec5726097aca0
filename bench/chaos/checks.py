"""What a run has to show, and whether it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.chaos.census import Census
from bench.chaos.journal import LOST, WRONG, Journal


@dataclass(frozen=True)
class Check:
    """`value` is what was measured, `bound` what was asked for. `is_speed`: it depends on how busy the machine is."""

    name: str
    value: Any
    bound: str
    passed: bool
    is_speed: bool = False


def none_of(name: str, value: int) -> Check:
    """There must be none."""
    return Check(name, value, "0", value == 0)


def at_most(name: str, value: float, bound: float) -> Check:
    """A duration or ratio that must not be larger."""
    return Check(name, round(value, 4), f"<= {round(bound, 4)}", value <= bound, is_speed=True)


def at_least(name: str, value: float, bound: float) -> Check:
    """A rate or ratio that must not be smaller."""
    return Check(name, round(value, 4), f">= {round(bound, 4)}", value >= bound, is_speed=True)


def nobody_harmed(journal: Journal, answers: dict[str, int]) -> list[Check]:
    """Every request has one answer, its own, and no error of ours. `answers` counts lines of the access log."""
    twice = sum(answers.get(asked.request_id, 0) > 1 for asked in journal.asked)
    return [
        none_of("lost", journal.count(LOST)),
        none_of("duplicated", journal.num_unasked + twice),
        none_of("mis-routed", journal.count(WRONG)),
        none_of("5xx", journal.num_server_errors),
    ]


def nothing_leaked(before: Census, after: Census) -> Check:
    """The same as before."""
    difference = before.difference(after)
    return Check("leaked", difference, "{}", not difference)


def figures(checks: Sequence[Check]) -> dict[str, Any]:
    """For the record."""
    return {"checks": [asdict(check) for check in checks], "passed": all(check.passed for check in checks)}
