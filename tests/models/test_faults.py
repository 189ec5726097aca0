from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from models import faults
from models.answers import Answers, Row, Running, WarmUpRow
from models.errors import DeviceLostError, OutOfMemoryError
from models.faults import Guarded
from tests.models.sticky_cuda import NAMES, StickyCuda

DEVICE = "cuda:0"


class _Model:
    """Does what `step` does."""

    slot_shape = (2, 2, 3)
    spec: ClassVar[dict[str, Any]] = {"task": "detect"}

    def __init__(self, step: Any) -> None:
        self._step = step

    def infer(self, rows: Sequence[Row]) -> Answers:
        return Answers([self._step(row) for row in rows])


def _row(**params: Any) -> Row:
    return WarmUpRow(np.zeros((2, 2, 3), np.uint8), params)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> StickyCuda:
    return StickyCuda(monkeypatch)


def test_a_device_that_works_passes_the_check(cuda: StickyCuda) -> None:
    faults.check_device(DEVICE)
    faults.check_device("cpu")


@pytest.mark.parametrize("code", sorted(NAMES))
def test_a_broken_device_fails_the_check_every_time(cuda: StickyCuda, code: int) -> None:
    cuda.poison(code)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="CUDA error"):
            Guarded(_Model(None), DEVICE, {}).check_device()


def test_what_cudnn_says_of_a_broken_device_passes_through_for_the_check_to_explain(cuda: StickyCuda) -> None:
    def step(row: Row) -> bytes:
        cuda.poison(700)
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    guarded = Guarded(_Model(step), DEVICE, {})
    with pytest.raises(RuntimeError, match="cuDNN"):
        guarded.infer([_row()])
    with pytest.raises(RuntimeError, match="illegal memory access"):
        guarded.check_device()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223: std::bad_alloc"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_want_of_memory_has_a_name_and_what_was_used_is_free_again(
    cuda: StickyCuda, error: Exception
) -> None:
    held: list[weakref.ref[Any]] = []

    def step(row: Row) -> bytes:
        tensor = torch.zeros(8)
        held.append(weakref.ref(tensor))
        raise error

    with pytest.raises(OutOfMemoryError) as caught:
        Guarded(_Model(step), DEVICE, {}).infer([_row()])
    assert caught.value.code == "out_of_memory"
    assert caught.value.__context__ is None, "its frames would keep the tensors alive"
    assert cuda.num_freed == 1
    error.__traceback__ = None  # the test's own reference
    gc.collect()
    assert held[0]() is None


def test_other_errors_stay_what_they_are(cuda: StickyCuda) -> None:
    def step(row: Row) -> bytes:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        Guarded(_Model(step), DEVICE, {}).infer([_row()])
    assert cuda.num_freed == 0


def test_a_device_that_is_gone_is_said_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*size: Any, **options: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: no CUDA-capable device is detected")

    monkeypatch.setattr(torch.cuda, "synchronize", gone)
    with pytest.raises(DeviceLostError) as caught:
        faults.check_present(DEVICE)
    assert (caught.value.code, caught.value.permanent) == ("device_lost", True)


def test_a_full_device_is_not_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*size: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", full)
    with pytest.raises(OutOfMemoryError) as caught:
        faults.check_present(DEVICE)
    assert not caught.value.permanent


def test_only_the_canary_is_cut_down_to_what_must_stay_the_same() -> None:
    answer = {"predictions": [{"confidence": 0.5, "box": {"x1": 1}}, {"confidence": 0.25, "box": {"x1": 2}}]}
    guarded = Guarded(_Model(lambda row: json.dumps(answer).encode()), "cpu", {"confidence": 0.0})
    assert guarded.canary == {"confidence": 0.0, "is_canary": True}
    user, canary = guarded.infer([_row(), _row(**guarded.canary)]).fragments
    assert json.loads(user) == answer  # type: ignore[arg-type]
    assert json.loads(canary) == {"confidences": [0.5, 0.25]}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"answer": "red", "prompt": "?"}, {"answer": "red", "confidences": []}),
        ({"caption": "a cat"}, {"caption": "a cat", "confidences": []}),
        ({"top": [{"confidence": 0.9, "label": "a"}]}, {"confidences": [0.9]}),
        ({"predictions": []}, {"confidences": []}),
    ],
)
def test_the_gist_of_every_kind_of_answer(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(faults.gist(json.dumps(answer).encode())) == expected


class _Launches(_Model):
    """Begins with `step`, or raises where it is told to."""

    max_launched = 2

    def __init__(self, step: Any, where: str, error: Exception | None = None) -> None:
        super().__init__(step)
        self._where = where
        self._error = error

    def raise_in(self, where: str) -> None:
        if where == self._where and self._error is not None:
            raise self._error

    def launch(self, rows: Sequence[Row]) -> Running:
        self.raise_in("launch")
        return _Running(self, rows)


class _Running:
    def __init__(self, model: _Launches, rows: Sequence[Row]) -> None:
        self._model = model
        self._rows = rows

    def wait(self) -> None:
        self._model.raise_in("wait")

    def result(self) -> Answers:
        self._model.raise_in("result")
        return self._model.infer(self._rows)


def _run(guarded: Guarded, *rows: Row) -> Answers:
    running = guarded.launch(rows)
    running.wait()
    return running.result()


@pytest.mark.parametrize("where", ["launch", "wait", "result"])
def test_want_of_memory_has_a_name_wherever_a_launched_batch_meets_it(cuda: StickyCuda, where: str) -> None:
    guarded = Guarded(_Launches(None, where, torch.OutOfMemoryError("CUDA out of memory")), DEVICE, {})
    with pytest.raises(OutOfMemoryError):
        _run(guarded, _row())
    assert cuda.num_freed == 1


@pytest.mark.parametrize("where", ["launch", "wait", "result"])
def test_other_errors_of_a_launched_batch_stay_what_they_are(cuda: StickyCuda, where: str) -> None:
    with pytest.raises(ValueError, match="a bug"):
        _run(Guarded(_Launches(None, where, ValueError("a bug")), DEVICE, {}), _row())
    assert cuda.num_freed == 0


def test_the_canary_is_cut_down_in_a_launched_batch_too() -> None:
    answer = {"predictions": [{"confidence": 0.5, "box": {"x1": 1}}]}
    guarded = Guarded(_Launches(lambda row: json.dumps(answer).encode(), "nowhere"), "cpu", {})
    user, canary = _run(guarded, _row(), _row(**guarded.canary)).fragments
    assert json.loads(user) == answer  # type: ignore[arg-type]
    assert json.loads(canary) == {"confidences": [0.5]}  # type: ignore[arg-type]


def test_what_a_model_can_do_is_passed_on_and_nothing_else() -> None:
    plain = Guarded(_Model(None), "cpu", {})
    assert (plain.max_launched, plain.attach) == (1, None)
    able = _Launches(None, "nowhere")
    told: list[Any] = []
    able.attach = told.append  # type: ignore[attr-defined]
    guarded = Guarded(able, "cpu", {})
    assert guarded.max_launched == 2
    assert guarded.attach is not None
    guarded.attach("memory")
    assert told == ["memory"]


_WITHOUT_TORCH = """
import sys
from models import faults
faults.check_present("cpu")
faults.free_memory("cpu")
assert faults.is_out_of_memory(MemoryError())
assert faults.is_out_of_memory(RuntimeError("std::bad_alloc"))
assert not faults.is_out_of_memory(RuntimeError("a bug"))
assert "torch" not in sys.modules
"""


def test_a_worker_on_the_cpu_is_guarded_without_torch() -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_TORCH], check=True, timeout=60)
