from __future__ import annotations

import pytest

from pool import Placement
from server.doctor import plan
from server.doctor.plan import check_plan, plan_lines
from server.table import known_models
from tests.server.doctor.machine import pools_of, settings_of

TWO = [Placement("cpu", (0, 1), 2), Placement("cpu", (2, 3), 2)]


@pytest.mark.parametrize(("chosen", "placements", "parts"), [
    ({}, TWO, ["2 replicas (cpu, 2 threads on cores 0,1; cpu, 2 threads on cores 2,3)", "replicas = auto is two"]),
    ({}, [Placement("cpu", (0,), 1)], ["1 replica (cpu, 1 thread on core 0)", "one core"]),
    ({"replicas": 2}, TWO, ["because replicas = 2"]),
    ({"threads": 3}, TWO, ["and threads = 3"]),
    ({}, [Placement("cuda:0", (0, 1), 2, {}, "cuda:1")], ["cuda:1, 2 threads", "one for each GPU"]),
    ({"replicas": 1}, [Placement("cuda:0", (0, 1), 2, {}, "cuda:1")], ["replicas = 1 for each GPU"]),
])  # fmt: skip
def test_a_plan_says_where_and_why(
    chosen: dict[str, int], placements: list[Placement], parts: list[str]
) -> None:
    settings = settings_of(**chosen)
    (line,) = plan_lines(settings, known_models(settings)["shapes-detect"], placements)
    assert all(part in line for part in parts), line


def test_every_model_loaded_at_start_has_the_placements_of_its_pool() -> None:
    settings = settings_of(load_at_start=("shapes-detect", "shapes-vqa"), replicas=1)
    texts = [each.text for each in check_plan(settings, pools_of(settings))]
    assert [text.split(":")[0] for text in texts] == ["shapes-detect", "shapes-vqa"]
    on_gpus = [each.text for each in check_plan(settings, pools_of(settings, ("cuda:0", "cuda:1")))]
    assert all("2 replicas (cuda:0" in text and "cuda:1" in text for text in on_gpus)
    assert check_plan(settings, {})[0].text == "no model loads at start"


def test_a_model_may_have_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(load_at_start=("shapes-detect",))
    monkeypatch.setattr(plan, "plan_lines", lambda *_: ["a", "b"])
    assert [each.text for each in check_plan(settings, pools_of(settings))] == [
        "shapes-detect: a",
        "shapes-detect: b",
    ]
