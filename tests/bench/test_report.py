"""Tables and plots from results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.record import record
from bench.report import MarkersMissingError, between_markers, brief, detailed, newest, plots
from bench.svg import line_plot, share_bars, ticks
from bench.tables import Figure, figures, figures_table, machine_line, table

RUN = {"executed_by": {"runtime": "openvino", "precision": "fp32", "replicas": 2}}


def _peers(**rates: float) -> dict[str, Any]:
    rows = [
        {
            "name": name.replace("__", " "),
            "settings": {"workers": 2},
            "executed_by": {"runtime": "torch", "precision": "fp32"},
            "per_second": rate,
            "spread": [rate, rate],
            "turns": [{"latency_seconds": {"p50": 0.1, "p99": 0.2}}],
        }
        for name, rate in rates.items()
    ]
    return record("peers", {}, {"rows": rows, "absent": {"ray predict": "it ended with 1\nmore"}, "noop": {}})


def _sweep() -> dict[str, Any]:
    latency = {"p50": 0.1, "p90": 0.2, "p99": 0.3}
    by_clients = [{"clients": n, "per_second": 10.0 * n, "latency_seconds": latency} for n in (1, 2)]
    stages = {"decode": 5.0, "infer": 50.0, "total": 60.0}
    by_load = [{"share": 0.7, "rate": 14.0, "latency_seconds": latency, "mean_stage_milliseconds": stages}]
    return record("sweep", {}, {**RUN, "by_clients": by_clients, "by_load": by_load})


def test_the_newest_result_of_each_kind_counts(tmp_path: Path) -> None:
    for name, kind, moment in (
        ("a", "tail", "2030-01-02"),
        ("b", "tail", "2030-01-01"),
        ("c", "peak", "2029-01-01"),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps({"bench": kind, "measured_at": moment}))
    (tmp_path / "other.json").write_text("[]")
    assert {kind: result["measured_at"] for kind, result in newest(tmp_path).items()} == {
        "tail": "2030-01-02",
        "peak": "2029-01-01",
    }


def test_a_figure_that_is_missed_is_called_so() -> None:
    assert Figure("peak", 0.86, 0.85).row()[-1] == ""
    assert Figure("peak", 0.84, 0.85).row()[-1] == "**missed**"
    assert Figure("memory", 210, 200, at_least=False).row()[-1] == "**missed**"
    assert Figure("reported", 1.0, None).row()[1] == "reported"


def test_the_engine_is_held_against_the_best_peer_of_each_kind() -> None:
    result = _peers(
        engine=40.0, engine__fp32=30.0, a__predict=8.0, b__predict=10.0, a__adapter=50.0, b__adapter=20.0
    )
    found = {figure.name: figure for figure in figures({"peers": result})}
    values = {
        name.split(" (")[0] + name.split("best peer, ")[1][:9]: figure.value for name, figure in found.items()
    }
    assert values == {"engineb predict": 4.0, "engine fp32b predict": 3.0, "enginea adapter": 0.8}
    assert [figure.is_met for figure in found.values()] == [True, True, False]


def test_a_peer_that_could_not_take_part_is_named_with_the_reason() -> None:
    text = detailed({"peers": _peers(engine=40.0, a__predict=8.0)})
    assert "- ray predict: it ended with 1" in text
    assert "| a predict | torch fp32 | workers 2 | 8.0 |" in text


def test_a_report_names_machine_and_versions() -> None:
    line = machine_line(_sweep())
    assert "cores" in line and "numpy" in line and "Python" in line
    assert line in brief({"sweep": _sweep()})


def test_what_was_not_measured_is_not_there() -> None:
    assert figures_table({}) == "Not measured."
    assert plots({}) == {}


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = "before\n<!-- bench -->\nold\n<!-- end of bench -->\nafter"
    assert between_markers(text, "new") == text.replace("old", "new")
    with pytest.raises(MarkersMissingError):
        between_markers("nothing", "new")


def test_plots_are_well_formed_and_hold_every_point() -> None:
    drawn = {path.stem: ElementTree.fromstring(svg) for path, svg in plots({"sweep": _sweep()}).items()}
    assert set(drawn) == {"throughput", "latency", "stages"}
    assert len(drawn["throughput"].findall("{*}circle")) == 2
    assert len(drawn["latency"].findall("{*}circle")) == 3
    with pytest.raises(ValueError, match="no points"):
        line_plot("t", "x", "y", {})
    with pytest.raises(ValueError, match="no parts"):
        share_bars("t", {})


@pytest.mark.parametrize("largest", [0.0003, 0.9, 1.0, 7.0, 54.7, 2000.0, 99999.0])
def test_ticks_are_few_round_and_reach_the_largest(largest: float) -> None:
    found = ticks(largest)
    assert found[0] == 0.0
    assert found[-1] >= largest
    assert 4 <= len(found) - 1 <= 8


def test_tables_are_markdown() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"
