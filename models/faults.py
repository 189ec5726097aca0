"""A model whose device can fail: out of memory is told apart, the device can be checked, a canary can be asked.

In a worker; torch is imported inside and for a GPU only: a worker on the CPU may do without it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import orjson

from models.answers import Answers, Row, Running
from models.errors import DeviceLostError, OutOfMemoryError

CANARY = "is_canary"
"""Parameter of the row that is asked to see whether the model still works."""

_NO_MEMORY = ("DefaultCPUAllocator", "bad_alloc", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
"""What PyTorch on the CPU, OpenVINO (C++ says std::bad_alloc), cuDNN and cuBLAS say in a plain RuntimeError."""

_Given = TypeVar("_Given")


class _Model(Protocol):
    @property
    def slot_shape(self) -> tuple[int, int, int]: ...

    @property
    def spec(self) -> dict[str, Any]: ...

    def infer(self, rows: Sequence[Row]) -> Answers: ...


class Guarded:
    """`model` on `device`; what it raises for want of memory becomes OutOfMemoryError."""

    def __init__(self, model: _Model, device: str, canary: Mapping[str, Any]) -> None:
        """`canary` are parameters that any picture can be asked with."""
        self._model = model
        self._device = device
        self.canary = {**canary, CANARY: True}
        """Parameters of a row whose answer is the same every time, whatever the pixels: its figures only."""
        self.max_launched: int = getattr(model, "max_launched", 1)
        """How many batches can be begun before the first is collected; from 2 on there is `launch`."""
        self.attach: Callable[[Any], None] | None = getattr(model, "attach", None)
        """Told the slots' memory, where the model wants to know."""

        self.best_batch_size: int = getattr(model, "best_batch_size", 0)
        """More rows at once gain nothing; 0: they always do."""

    @property
    def is_alone(self) -> bool:
        """Whether the next batch has the machine to itself."""
        return bool(getattr(self._model, "is_alone", False))

    @is_alone.setter
    def is_alone(self, is_alone: bool) -> None:
        if hasattr(self._model, "is_alone"):
            self._model.is_alone = is_alone

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one row's pixels: (height, width, 3)."""
        return self._model.slot_shape

    @property
    def spec(self) -> dict[str, Any]:
        """The model's spec as JSON types."""
        return self._model.spec

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answer `rows` at once. Raises OutOfMemoryError, and whatever the model raises."""
        return _with_gist(rows, self.guard(lambda: self._model.infer(rows)))

    def launch(self, rows: Sequence[Row]) -> Running:
        """Begin `rows`. Raises the same, and so does what it returns."""
        launch = self._model.launch  # type: ignore[attr-defined]  # models that can be given one batch only lack it
        return _GuardedRunning(self, rows, self.guard(lambda: launch(rows)))

    def guard(self, step: Callable[[], _Given]) -> _Given:
        """What `step` gives. Raises OutOfMemoryError where it ran out of memory, else what it raises."""
        try:
            return step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # only here, when the exception and its frames are gone, can what they held be freed
        free_memory(self._device)
        raise OutOfMemoryError(reason)

    def check_device(self) -> None:
        """Raises whatever the device says if it is broken: an error of CUDA stays until the process ends."""
        check_device(self._device)


class _GuardedRunning:
    def __init__(self, guarded: Guarded, rows: Sequence[Row], running: Running) -> None:
        self._guarded = guarded
        self._rows = rows
        self._running = running

    def wait(self) -> None:
        self._guarded.guard(self._running.wait)

    def result(self) -> Answers:
        return _with_gist(self._rows, self._guarded.guard(self._running.result))


def _with_gist(rows: Sequence[Row], answers: Answers) -> Answers:
    if any(CANARY in row.params for row in rows):
        answers.fragments = [
            gist(fragment) if CANARY in row.params and isinstance(fragment, bytes) else fragment
            for row, fragment in zip(rows, answers.fragments, strict=True)
        ]
    return answers


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory, of the device or the machine, did not suffice."""
    torch = sys.modules.get("torch")  # what was not imported has not raised anything
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def free_memory(device: str) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def check_device(device: str) -> None:
    """Wait for everything that was asked of `device`, then ask one thing more. Raises if it is broken."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
        total = (torch.ones(2, device=device) + 1).sum().item()
    else:
        total = (np.ones(2, np.float32) + 1).sum()
    if total != 4:
        raise RuntimeError(f"{device} cannot add any more")


def check_present(device: str) -> None:
    """Raises DeviceLostError if no process can use `device` now; for a process that has not used it yet."""
    try:
        check_device(device)
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(str(error)) from error
        raise DeviceLostError(f"{device}: {error}") from error


def gist(fragment: bytes) -> bytes:
    """What of an answer must stay the same: confidences and texts. Places would differ where two boxes tie."""
    answer = orjson.loads(fragment)
    scored = answer.get("predictions") or answer.get("top") or []
    kept = {name: answer[name] for name in ("answer", "caption") if name in answer}
    return orjson.dumps({**kept, "confidences": [each["confidence"] for each in scored]})
