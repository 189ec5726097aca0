"""Layouts of the ceiling, and what a run consists of."""

from __future__ import annotations

import json
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


def test_every_bench_names_a_module_and_may_be_listed() -> None:
    command = [sys.executable, "-m", "bench.all", "--list", "--precision", "fp32"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(listed) == len(BENCHES)
    assert sum("--precision fp32" in line for line in listed) == sum(
        bench.takes_weights for bench in BENCHES.values()
    )
    assert not json.dumps(listed).count("None")
