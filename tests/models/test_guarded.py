"""The factories as a worker calls them, with real models: what the canary is asked, and what a fault looks like."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from models.answers import WarmUpRow, no_progress
from models.catalogue import CATALOGUE
from models.errors import DeviceLostError
from models.faults import Guarded
from models.guarded import load_yolo
from pool.canary import KnownAnswer, paint

CONFIG = {**CATALOGUE["shapes-detect"].to_config(), "max_batch_size": 2, "num_threads": 1}


@pytest.fixture(scope="module")
def model() -> Guarded:
    return load_yolo(CONFIG, "cpu", no_progress)


def _canary(model: Guarded) -> Any:
    pixels = np.zeros(model.slot_shape, np.uint8)
    paint(pixels)
    return WarmUpRow(pixels, model.canary)


def test_the_canary_of_a_real_detector_has_figures_and_the_same_every_time(model: Guarded) -> None:
    (first,) = model.infer([_canary(model)]).fragments
    assert isinstance(first, bytes)
    confidences = json.loads(first)["confidences"]
    assert len(confidences) == 5
    assert all(confidence > 0 for confidence in confidences)
    (again,) = model.infer([_canary(model)]).fragments
    assert again == first


def test_weights_that_were_damaged_in_memory_are_noticed_by_the_canary(model: Guarded) -> None:
    known = KnownAnswer()
    (right,) = model.infer([_canary(model)]).fragments
    assert known.check(right, is_fresh=True)  # type: ignore[arg-type]
    network = model._model._runtime._network  # type: ignore[attr-defined]
    weight = next(weight for weight in network.parameters() if weight.ndim == 4)
    kept = weight.detach().clone()
    try:
        weight.data.zero_()
        (wrong,) = model.infer([_canary(model)]).fragments
    finally:
        weight.data.copy_(kept)
    assert not known.check(wrong, is_fresh=False)  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_lost_before_anything_is_loaded() -> None:
    stages: list[Any] = []
    with pytest.raises(DeviceLostError):
        load_yolo(CONFIG, "cuda:93", stages.append)
    assert stages == []
