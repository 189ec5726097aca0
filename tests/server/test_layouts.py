from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pool import CoreBudget, Placement
from server.launch import Launching
from server.layouts import FILE, Layouts, best_width
from server.settings import Settings
from server.table import Known, known_models

CORES = CoreBudget.of(range(4))


@pytest.mark.parametrize(
    ("measured", "num_cores", "width"),
    [
        ({}, 4, None),
        ({"1": 100.0, "2": 80.0, "4": 60.0}, 4, 1),
        ({"1": 100.0, "2": 96.0, "4": 60.0}, 4, 2),  # as good with half the memory
        ({"1": 100.0, "2": 99.0, "4": 98.0}, 4, 2),  # one can die
        ({"1": 60.0, "2": 80.0, "4": 100.0}, 4, 4),
        ({"1": 100.0, "2": 60.0}, 2, 1),
    ],
)
def test_the_fastest_layout_wins_and_of_equals_the_one_of_fewest_replicas_but_two(
    measured: dict[str, float], num_cores: int, width: int | None
) -> None:
    assert best_width(measured, num_cores) == width


def known(**chosen: Any) -> Known:
    return known_models(Settings(**chosen))["shapes-detect"]


def pool_of(*placements: Placement, **spec: Any) -> Any:
    replicas = [SimpleNamespace(placement=placement) for placement in placements]
    return SimpleNamespace(replicas=replicas, spec=spec)


def test_what_a_worker_has_measured_is_remembered_for_the_next_start(tmp_path: Path) -> None:
    layouts = Layouts(tmp_path, 4)
    assert layouts.width(known()) is None
    layouts.note(known(), {"layouts": {"1": 9.0, "2": 5.0, "4": 3.0}})
    again = Layouts(tmp_path, 4)
    assert again.width(known()) == 1
    assert Layouts(tmp_path, 2).width(known()) is None, "other cores were not measured"
    assert again.width(known_models(Settings())["shapes-vqa"]) is None
    again.note(known(), None)
    again.note(known(), {"layouts": {}})
    assert again.width(known()) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 3}', '{"a": {"x": 1}}', '{"a": {"0": 1}}', '{"a": {"1": null}}']
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    layouts = Layouts(tmp_path, 4)
    layouts.note(known(), {"layouts": {"4": 1.0}})
    assert list(json.loads((tmp_path / FILE).read_text()).values()) == [{"4": 1.0}]


def test_a_folder_that_cannot_be_written_to_costs_the_memory_only(tmp_path: Path) -> None:
    layouts = Layouts(tmp_path / "absent", 4)
    layouts.note(known(), {"layouts": {"4": 1.0}})
    assert layouts.width(known()) == 4


def test_a_pool_is_outdated_once_another_layout_has_measured_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.launch.usable_cores", lambda: CORES)
    launching = Launching(Settings(device="cpu", converted_dir=tmp_path), 1)
    assert [replica.placement.num_threads for replica in launching.make_pool(known()).replicas] == [2, 2]
    halves = Placement(cores=(0, 1), num_threads=2), Placement(cores=(2, 3), num_threads=2)
    assert not launching.is_outdated(known(), pool_of(*halves))
    assert launching.is_outdated(known(), pool_of(*halves, layouts={"1": 9.0, "2": 5.0, "4": 3.0}))
    placements = [replica.placement for replica in launching.make_pool(known()).replicas]
    assert [(each.cores, each.num_threads) for each in placements] == [((core,), 1) for core in range(4)]
    assert not launching.is_outdated(known(), pool_of(*placements, layouts={"1": 9.0, "2": 5.0, "4": 3.0}))


@pytest.mark.parametrize("chosen", [{"replicas": 2}, {"threads": 2}])
def test_what_the_operator_chose_is_not_laid_out_anew(
    chosen: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.launch.usable_cores", lambda: CORES)
    launching = Launching(Settings(device="cpu", converted_dir=tmp_path, **chosen), 1)
    pool = launching.make_pool(known(**chosen))
    assert [replica.placement.num_threads for replica in pool.replicas] == [2, 2]
    spoken = pool_of(*(replica.placement for replica in pool.replicas), layouts={"1": 9.0, "2": 5.0})
    assert not launching.is_outdated(known(**chosen), spoken)


def test_under_a_quota_replicas_are_laid_out_by_its_count_and_not_pinned(tmp_path: Path) -> None:
    launching = Launching(Settings(device="cpu", converted_dir=tmp_path), 1, cores=CoreBudget(4))
    for layouts, threads in (({}, [2, 2]), ({"1": 9.0, "2": 5.0, "4": 3.0}, [1] * 4)):
        launching.layouts.note(known(), {"layouts": layouts})
        placements = [replica.placement for replica in launching.make_pool(known()).replicas]
        assert [(each.cores, each.num_threads) for each in placements] == [((), number) for number in threads]
