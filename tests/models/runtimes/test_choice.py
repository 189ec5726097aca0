"""What `auto` takes, with runtimes whose speed and answers are made up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from models.answers import Pixels
from models.runtimes import choice as choice_module
from models.runtimes.choice import Choice, choose, gated, machine
from models.runtimes.place import Place
from models.runtimes.runtime import Finished, Running
from models.runtimes.wish import Pair, Wish
from models.traits import Traits

TRAITS = Traits("Detect", "detect", "letterbox", ("a", "b"), 64, 64, end2end=False)
TORCH, FP32, BF16 = ("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")


class Fake:
    def __init__(self, pair: Pair, seconds: float, error: float = 0.0) -> None:
        self.name, self.precision = pair
        self._seconds = seconds
        self._error = error

    def launch(self, pixels: Sequence[Pixels]) -> Running:
        time.sleep(self._seconds)
        raw = np.random.default_rng(0).uniform(0.2, 0.7, (len(pixels), 6, 30)).astype(np.float32)
        raw[:, 4:] += self._error
        return Finished(raw)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "MEASURE_SECONDS", 0.0)


def chosen(bf16_error: float, *reasons: str) -> Choice:
    seconds = {TORCH: 0.03, FP32: 0.02, BF16: 0.002}
    fakes = {pair: Fake(pair, seconds[pair], bf16_error if pair == BF16 else 0.0) for pair in seconds}
    return choose(fakes, TRAITS, 2, reasons)


def test_the_fastest_is_taken_and_all_are_named() -> None:
    taken = chosen(bf16_error=0.005)
    assert taken.pair == BF16
    assert set(taken.milliseconds) == {"torch fp32", "openvino fp32", "openvino bf16"}
    assert taken.reason.startswith("fastest on this machine: openvino bf16 2")
    assert Choice.from_json(taken.to_json()) == taken


def test_the_fastest_is_not_taken_if_it_answers_otherwise() -> None:
    taken = chosen(bf16_error=0.1)
    assert taken.pair == FP32
    assert "openvino bf16 differs from fp32 on sample pictures (mean confidence 0.1 > 0.02)" in taken.reason


def test_what_loses_too_much_or_was_never_measured_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {FP32: 0.01, BF16: 0.51}
    monkeypatch.setattr(choice_module, "loss", lambda model, *pair: losses.get(pair))
    assert gated([TORCH, FP32, BF16]) == ([TORCH, FP32], ["openvino bf16 loses 0.51 points"])
    losses.clear()
    kept, reasons = gated([TORCH, FP32, BF16])
    assert kept == [TORCH]
    assert reasons == ["openvino fp32 was not measured", "openvino bf16 was not measured"]


def test_a_choice_is_made_anew_for_other_threads_or_other_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    wish, place = Wish("auto", "auto"), Place("cpu", 8, 1, 2, (0, 1))
    one = machine(wish, place)
    assert one == machine(wish, place)
    others = [replace(place, num_threads=2), replace(place, num_cores=3)]
    assert all(machine(wish, other) != one for other in others)
    assert machine(Wish("openvino", "auto"), place) != one
    monkeypatch.setattr(choice_module, "loss", lambda *_: 0.7)
    assert machine(wish, place) != one


@pytest.mark.parametrize(
    "fields",
    [None, {}, {"runtime": "openvino"}, {"runtime": 3, "precision": 4, "reason": 5, "milliseconds": {}}],
)
def test_a_damaged_choice_is_none(fields: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Choice.from_json(fields)
