"""Figures and tables of sharing, BLIP, questions, pieces, reduced decoding and Ray Serve."""

from __future__ import annotations

from typing import Any

import pytest

from bench.costs import TABLES, figures
from bench.record import record
from bench.report import detailed, kind_of

BY = {"runtime": "openvino", "precision": "fp32"}


def _results() -> dict[str, dict[str, Any]]:
    alone, together = {"bench": 10.0, "shapes-detect": 40.0}, {"bench": 6.0, "shapes-detect": 16.0}
    seconds = {"wall_seconds": 0.5, "cpu_seconds": 0.4}
    ways = {"in_full": {"decode_cpu_seconds": 0.004, "map50_95": 0.9}}
    ways["scaled"] = {"decode_cpu_seconds": 0.002, "map50_95": 0.89}
    whole = {"per_second": 300.0, "front_cpu_us": 5000.0, "generator_cpu_us": 300.0}
    turn = {"alone": alone, "together": together, "share": 1.0}
    side = {"per_second": 20.0, "p50": 0.05, "p99": 0.1, "ratio": 1.0, "spread": [1.0, 1.0]}
    sides = {"alone": side, "haproxy": {**side, "ratio": 0.9, "spread": [0.8, 0.95]}, "python": side}
    found = {
        "together": {
            "executed_by": dict.fromkeys(alone, BY),
            "turns": [turn],
            "share": 1.0,
            "spread": [1.0, 1.0],
        },
        "blip": {
            **BY,
            "ratio": 3.9,
            "cpu_ratio": 4.1,
            "ours": {"seconds": {"1": 0.5}},
            "transformers_fp32": {"seconds": {"1": 1.95}},
        },
        "questions": {
            **BY,
            "num_questions": 10,
            "passes": {"in_a_list": 1, "in_a_batch": 2},
            "ways": {"ten_apart": seconds},
            "later_over_text": 1.1,
        },
        "pieces": {"pieces": {"decode": {"cpu_us": 3000.0, "fastest_us": 2900.0}}, "whole_path": whole},
        "scaling": {"by_factor": {"2x": ways}},
        "ray_serve": {
            "model": "bench",
            "executed_by": dict.fromkeys(sides, BY),
            "summary": [sides | {"clients": 8}],
        },
    }
    settings = {"tokens": 10, "weights": "weights/yolov8n.pt"}
    return {name: record(name, settings, figures) for name, figures in found.items()}


def test_what_is_missed_is_called_so() -> None:
    verdicts = {figure.name: figure.is_met for figure in figures(_results())}
    missed = [name for name, is_met in verdicts.items() if not is_met]
    assert len(missed) == 2
    assert missed[0].startswith("BLIP VQA base (openvino fp32), 10 new tokens ÷ transformers")
    assert missed[1] == "10 questions on one image, in a batch: vision passes"


def test_points_lost_are_hundredths() -> None:
    (lost,) = (figure for figure in figures(_results()) if "points" in figure.name)
    assert lost.value == pytest.approx(1.0)


def test_every_kind_has_a_table_in_the_report() -> None:
    results = _results()
    text = detailed(results)
    assert set(TABLES) == set(results)
    for name, result in results.items():
        assert TABLES[name](result) in text


def test_what_stands_behind_ray_is_held_against_the_same_engine_alone() -> None:
    results = {kind_of(result): result for result in _results().values()}
    (behind,) = (figure for figure in figures(results) if "behind Ray Serve" in figure.name)
    assert (behind.name, behind.value, behind.spread) == (
        "yolov8n behind Ray Serve (HAProxy) ÷ alone, 8 clients",
        0.9,
        [0.8, 0.95],
    )
    assert "| 8 | Ray's proxy: haproxy | 20.0 | 50 | 100 | 0.90 (0.80 to 0.95) |" in detailed(results)


def test_a_run_of_further_peers_does_not_stand_for_the_comparison() -> None:
    peers = {"rows": [], "ratios": {}, "absent": {}}
    assert kind_of(record("peers", {"peers": ["ray"]}, peers)) == "peers: ray"
    assert kind_of(record("peers", {"peers": ["mosec"]}, {**peers, "noop": {"rows": []}})) == "peers"
