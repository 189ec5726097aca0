from __future__ import annotations

import os

import pytest

from models.runtimes.conversion import convert
from models.runtimes.layout import measure_layouts, widths
from tests.models.runtimes.test_openvino_runtime import Means
from tests.models.runtimes.test_torch_runtime import SHAPE


@pytest.mark.parametrize(
    ("num_cores", "tried"),
    [
        (1, []),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (6, [1, 2, 4, 6]),
        (16, [1, 2, 4, 8, 16]),
        (64, [4, 8, 16, 32, 64]),
    ],
)
def test_layouts_from_many_replicas_of_few_threads_to_one_of_all_are_tried(
    num_cores: int, tried: list[int]
) -> None:
    assert widths(num_cores) == tried


def test_each_layout_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.runtimes.layout.SECONDS", 0.05)
    num_cores = min(4, len(os.sched_getaffinity(0)))
    measured = measure_layouts(convert(Means(), SHAPE), SHAPE, "fp32", num_cores)
    assert [int(width) for width in measured] == widths(num_cores)
    assert all(rate > 0 for rate in measured.values())
