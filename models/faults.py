"""A model whose device can fail: out of memory is told apart, the device can be checked, a canary can be asked.

In a worker; torch is imported inside.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from models.answers import Answers, Row
from models.errors import DeviceLostError, OutOfMemoryError

CANARY = "is_canary"
"""Parameter of the row that is asked to see whether the model still works."""


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
        try:
            answers = self._model.infer(rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        else:
            if any(CANARY in row.params for row in rows):
                answers.fragments = [
                    gist(fragment) if CANARY in row.params and isinstance(fragment, bytes) else fragment
                    for row, fragment in zip(rows, answers.fragments, strict=True)
                ]
            return answers
        # only here, when the exception and its frames are gone, can what they held be freed
        free_memory(self._device)
        raise OutOfMemoryError(reason)

    def check_device(self) -> None:
        """Raises whatever the device says if it is broken: an error of CUDA stays until the process ends."""
        check_device(self._device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory, of the device or the machine, did not suffice."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def free_memory(device: str) -> None:
    """Give back what nothing refers to any more."""
    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def check_device(device: str) -> None:
    """Wait for everything that was asked of `device`, then ask one thing more. Raises if it is broken."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    if (torch.ones(2, device=device) + 1).sum().item() != 4:
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
