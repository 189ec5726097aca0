from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from server.doctor.memory import (
    MemoryFacts,
    check_descriptors,
    check_memory,
    check_shared_memory,
    needed_memory,
    read_memory,
)
from server.doctor.sizes import GIB, MIB
from tests.server.doctor.facts import named, statuses
from tests.server.doctor.machine import pools_of, settings_of

GOOD = MemoryFacts(
    limit=8 * GIB, cgroup=8 * GIB, available=6 * GIB, budget=7 * GIB, needed=3 * GIB, swap=0, num_kills=0
)


def test_models_that_fit_are_ok_with_all_the_figures() -> None:
    findings = check_memory(GOOD)
    assert statuses(findings) == {"memory": "ok", "budget": "ok"}
    assert (
        "8.0 GiB for the container" in named(findings, "memory").text
        and "no swap" in named(findings, "memory").text
    )
    assert "3.0 GiB, the budget is 7.0 GiB" in named(findings, "budget").text
    assert "for the machine" in named(check_memory(replace(GOOD, cgroup=None, swap=GIB)), "memory").text


def test_models_beyond_the_budget_are_a_problem_and_beyond_what_is_left_a_warning() -> None:
    assert named(check_memory(replace(GOOD, needed=9 * GIB)), "budget").status == "problem"
    busy = named(check_memory(replace(GOOD, available=GIB)), "budget")
    assert busy.status == "warning" and "1.0 GiB are available now" in busy.text


def test_a_budget_beyond_the_limit_and_kills_are_warned_of() -> None:
    findings = check_memory(replace(GOOD, budget=20 * GIB))
    assert [each.status for each in findings if each.name == "budget"] == ["warning", "ok"]
    assert "killed 3 times" in named(check_memory(replace(GOOD, num_kills=3)), "oom_kills").text


def test_a_containers_limit_and_kills_are_read(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 1024 kB\n")
    facts = read_memory(settings_of(memory_budget=GIB), 5, tmp_path, meminfo)
    assert (facts.limit, facts.cgroup, facts.swap, facts.budget, facts.needed) == (
        16 * GIB,
        None,
        MIB,
        GIB,
        5,
    )
    for name, text in (
        ("memory.max", "4294967296"),
        ("memory.current", "0"),
        ("memory.stat", ""),
        ("memory.events", "oom_kill 2"),
    ):
        (tmp_path / name).write_text(text)
    facts = read_memory(settings_of(), 5, tmp_path, meminfo)
    assert (facts.limit, facts.cgroup, facts.available, facts.num_kills) == (4 * GIB, 4 * GIB, 4 * GIB, 2)


def test_what_is_needed_grows_with_the_models_and_their_replicas() -> None:
    def needed(**chosen: object) -> int:
        settings = settings_of(**chosen)
        return needed_memory(settings, pools_of(settings))

    none = needed(load_at_start=())
    one = needed(load_at_start=("shapes-detect",), replicas=1)
    two = needed(load_at_start=("shapes-detect",), replicas=2)
    assert 0 < none < one - 400 * MIB and one + 250 * MIB < two


def test_a_low_limit_of_open_files_is_a_warning() -> None:
    settings = settings_of()
    assert check_descriptors(1024, settings, 2).status == "ok"
    low = check_descriptors(256, settings, 2)
    assert low.status == "warning" and "LimitNOFILE" in low.remedy
    assert check_descriptors(1024, settings_of(max_queue_size=2000), 1).status == "warning"


def test_shared_memory_that_is_forbidden_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_shared_memory().status == "ok"

    def forbidden(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", forbidden)
    found = check_shared_memory()
    assert found.status == "problem" and "Operation not permitted" in found.text and "seccomp" in found.remedy
