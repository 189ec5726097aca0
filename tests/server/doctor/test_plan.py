from __future__ import annotations

from pathlib import Path

import pytest

from pool import Placement
from server.doctor import plan
from server.doctor.plan import check_plan, plan_lines
from server.layouts import Layouts
from server.table import known_models
from tests.server.doctor.machine import pools_of, settings_of

NOTHING = Layouts(Path("nowhere"), 4)
TWO = [Placement("cpu", (0, 1), 2), Placement("cpu", (2, 3), 2)]


@pytest.mark.parametrize(("chosen", "placements", "parts"), [
    ({}, TWO, ["2 replicas (cpu, 2 threads on cores 0,1; cpu, 2 threads on cores 2,3)", "replicas = auto is two"]),
    ({}, [Placement("cpu", (0,), 1)], ["1 replica (cpu, 1 thread on core 0)", "one core"]),
    ({}, [Placement("cpu", (), 2)] * 2, ["2 replicas (cpu, 2 threads, not pinned; cpu, 2 threads, not pinned)"]),
    ({"replicas": 2}, TWO, ["because replicas = 2"]),
    ({"threads": 3}, TWO, ["and threads = 3"]),
    ({}, [Placement("cuda:0", (0, 1), 2, {}, "cuda:1")], ["cuda:1, 2 threads", "one for each GPU"]),
    ({"replicas": 1}, [Placement("cuda:0", (0, 1), 2, {}, "cuda:1")], ["replicas = 1 for each GPU"]),
])  # fmt: skip
def test_a_plan_says_where_and_why(
    chosen: dict[str, int], placements: list[Placement], parts: list[str]
) -> None:
    settings = settings_of(**chosen)
    (line,) = plan_lines(settings, known_models(settings)["shapes-detect"], placements, {})
    assert all(part in line for part in parts), line


def test_every_model_loaded_at_start_has_the_placements_of_its_pool() -> None:
    settings = settings_of(load_at_start=("shapes-detect", "shapes-vqa"), replicas=1)
    texts = [each.text for each in check_plan(settings, pools_of(settings), NOTHING)]
    assert [text.split(":")[0] for text in texts] == ["shapes-detect", "shapes-vqa"]
    on_gpus = [each.text for each in check_plan(settings, pools_of(settings, num_gpus=2), NOTHING)]
    assert all("2 replicas (cuda:0" in text and "cuda:1" in text for text in on_gpus)
    assert check_plan(settings, {}, NOTHING)[0].text == "no model loads at start"


def test_a_model_may_have_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(load_at_start=("shapes-detect",))
    monkeypatch.setattr(plan, "plan_lines", lambda *_: ["a", "b"])
    assert [each.text for each in check_plan(settings, pools_of(settings), NOTHING)] == [
        "shapes-detect: a",
        "shapes-detect: b",
    ]


def test_a_plan_that_was_measured_says_what_was() -> None:
    settings = settings_of()
    (line,) = plan_lines(settings, known_models(settings)["shapes-detect"], TWO, {"1": 30.5, "2": 40.0})
    assert line.endswith("measured by threads of a replica: 30.5 with 1 each, 40 with 2 each")


def test_a_plan_says_which_gpus_a_model_was_given() -> None:
    settings = settings_of(models={
        "shapes-detect": {"replicas": {"cuda:0": 2}, "dedicated": True}, "shapes-vqa": {"device": "cpu"},
    })  # fmt: skip
    texts = {
        each.text.split(":")[0]: each.text for each in check_plan(settings, pools_of(settings, 2), NOTHING)
    }
    assert "2 replicas (cuda:0" in texts["shapes-detect"]
    assert texts["shapes-detect"].endswith("models.shapes-detect.replicas says so, dedicated to it")
    assert "(cpu, " in texts["shapes-vqa"]
    assert texts["shapes-vqa"].endswith("models.shapes-vqa.device = cpu")
