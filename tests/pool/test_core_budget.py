from __future__ import annotations

import os
from pathlib import Path

import pytest

from pool.core_budget import CoreBudget, usable_cores
from pool.placement import place

MINE = range(2, 10)


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(MINE))


def usable(tmp_path: Path, text: str) -> CoreBudget:
    (tmp_path / "cpu.max").write_text(text + "\n")
    return usable_cores(tmp_path / "cpu.max")


@pytest.mark.parametrize("text", ["max 100000", "800000 100000", "750000 100000", "10000000 100000"])
def test_a_quota_that_covers_the_affinity_changes_nothing(tmp_path: Path, text: str) -> None:
    assert usable(tmp_path, text) == usable_cores(tmp_path / "missing") == CoreBudget(8, tuple(MINE))


@pytest.mark.parametrize(
    ("text", "num_cores"), [("400000 100000", 4), ("150000 100000", 2), ("100000 100000", 1), ("1 100000", 1)]
)
def test_a_smaller_quota_gives_a_count_and_names_no_core(tmp_path: Path, text: str, num_cores: int) -> None:
    assert usable(tmp_path, text) == CoreBudget(num_cores)


def test_two_engines_under_quotas_on_one_machine_do_not_plan_with_the_same_cores(tmp_path: Path) -> None:
    plans = [place(["cpu"], None, usable(tmp_path, "400000 100000")) for _ in range(2)]
    first, second = ({core for placement in plan for core in placement.cores} for plan in plans)
    assert not first & second
    assert [[placement.num_threads for placement in plan] for plan in plans] == [[2, 2], [2, 2]]
