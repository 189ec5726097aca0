"""Layouts of the ceiling, and what a run consists of."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from bench.all import BENCHES
from bench.ceiling import Layout, layouts
from bench.peak import ratios


def test_every_layout_uses_every_core_once() -> None:
    assert layouts(2) == [Layout(2, 1, 1), Layout(1, 2, 1), Layout(1, 1, 2)]
    assert layouts(1) == [Layout(1, 1, 1)]
    for layout in layouts(8):
        assert layout.processes * layout.streams * layout.threads == 8
    assert layouts(4, [1]) == [Layout(4, 1, 1), Layout(1, 4, 1)]


def test_a_ratio_is_of_one_turn_and_the_median_of_the_turns_counts() -> None:
    turns = [{"ceiling": {"per_second": 10.0}, "raw": {"per_second": rate}} for rate in (8.0, 9.0, 9.5)]
    assert ratios(turns, "raw") == {"median": 0.9, "spread": [0.8, 0.95]}


def test_every_bench_is_listed_with_its_module_and_its_time() -> None:
    command = [sys.executable, "-m", "bench.all", "--list"]
    *listed, last = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split() for line in listed]
    assert [(row[0], row[3]) for row in rows] == [
        (name, bench.module.split()[0]) for name, bench in BENCHES.items()
    ]
    assert last.split()[:2] == ["all", str(round(sum(bench.minutes for bench in BENCHES.values()), 1))]
    for bench in BENCHES.values():
        assert importlib.util.find_spec(bench.module.split()[0]) is not None
