from __future__ import annotations

from server.doctor.knobs import check_knobs
from tests.server.doctor.facts import statuses


def test_no_knob_is_one_quiet_line() -> None:
    assert statuses(check_knobs({"PATH": "/bin", "CUDA_LAUNCH_BLOCKING": "0"})) == {"knob": "ok"}


def test_a_knob_that_costs_speed_is_a_warning_with_its_cost() -> None:
    (found,) = check_knobs({"CUDA_LAUNCH_BLOCKING": "1"})
    assert (
        found.status == "warning"
        and "waited for" in found.text
        and found.remedy.startswith("`unset CUDA_LAUNCH_BLOCKING`")
    )


def test_knobs_that_cost_nothing_are_told() -> None:
    findings = check_knobs({"TORCH_USE_CUDA_DSA": "1", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"})
    assert [each.status for each in findings] == ["ok", "ok"]
    assert any("expandable_segments:True" in each.text for each in findings)


def test_a_list_of_gpus_set_to_nothing_is_told_apart_from_one_not_set() -> None:
    (found,) = check_knobs({"CUDA_VISIBLE_DEVICES": ""})
    assert "set, but to nothing" in found.text
