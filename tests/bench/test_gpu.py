"""The stages of the GPU's bench with a stand-in for the GPU: that they run and count, not how fast."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.gpu import NUM_SETS, answered, copied, decoded, rate, resident, slab_of
from bench.pictures import distinct_jpegs
from models.answers import WarmUpRow, no_progress
from models.catalogue import CATALOGUE
from models.checkpoint import read_checkpoint
from models.heads import post_processor
from models.runtimes.gpu import Wanted, open_on_gpu
from models.spec import Spec
from models.weights import resolve
from models.yolo import YoloModel, load
from tests.models.networks import row, shapes
from tests.models.runtimes.cpu_device import CpuDevice

CONFIG = {**CATALOGUE["shapes-detect"].to_config(), "max_batch_size": 2, "num_threads": 1}
SECONDS = 0.01


@pytest.fixture(scope="module")
def model() -> YoloModel:
    """The demo detector, on a GPU as far as it can tell."""
    checkpoint = read_checkpoint(resolve(CONFIG, no_progress).path, None)
    traits = checkpoint.traits
    device: Any = CpuDevice()
    runtime = open_on_gpu(
        checkpoint.network, (*traits.input_shape, 3), 2, device, Wanted("torch", "fp32"), no_progress
    )
    spec = Spec(
        "shapes-detect",
        "yolo",
        traits.task,
        traits.resize,
        *traits.input_shape,
        traits.labels,
        "cuda:0",
        "torch",
        "fp32",
        "",
    )
    return YoloModel(spec, runtime, post_processor(traits))


def test_two_batches_are_under_way_and_every_one_is_finished_once() -> None:
    begun: list[int] = []
    finished: list[int] = []

    def begin(turn: int) -> int:
        begun.append(turn)
        assert len(begun) - len(finished) <= 2
        return turn

    images = rate(begin, finished.append, 0.02, 3)
    assert begun == finished == [0, *range(len(begun) - 1)]
    assert images > 0


def test_every_stage_runs(model: YoloModel) -> None:
    with slab_of(model, 2) as slots:
        assert [len(some) for some in slots] == [2] * NUM_SETS
        height, width, _ = model.slot_shape
        rows = [
            [WarmUpRow(slot.worker, {"height": height, "width": width}) for slot in some] for some in slots
        ]
        rates = [
            resident(model, 2, SECONDS),
            copied(model, slots, SECONDS),
            answered(model, rows, SECONDS),
            decoded(model, slots, distinct_jpegs(2, seed=0), SECONDS, num_threads=1),
        ]
    assert min(rates) > 0


def test_a_launched_model_answers_as_it_does_on_the_cpu(model: YoloModel) -> None:
    rows = [row(picture, *model.slot_shape[:2]) for picture in list(shapes().values())[:2]]
    bad = WarmUpRow(rows[0].pixels, {**rows[0].params, "confidence": 7})
    first, second = model.launch([rows[0], bad]), model.launch([rows[1]])
    answers = []
    for running in (first, second):
        running.wait()
        answers.append(running.result().fragments)
    on_cpu = load(CONFIG, "cpu", no_progress).infer(rows).fragments
    assert isinstance(answers[0][1], Exception)
    for found, right in zip((answers[0][0], answers[1][0]), on_cpu, strict=True):
        assert isinstance(found, bytes)
        assert isinstance(right, bytes)
        pairs = zip(json.loads(found)["predictions"], json.loads(right)["predictions"], strict=True)
        for one, other in pairs:
            assert one["label"] == other["label"]
            assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
