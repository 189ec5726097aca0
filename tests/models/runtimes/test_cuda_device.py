from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.runtimes.cuda_device import CudaDevice


def _device() -> CudaDevice:
    """One without streams, which only a GPU has."""
    device = CudaDevice.__new__(CudaDevice)
    device.torch_device = torch.device("cpu")
    return device


@pytest.mark.parametrize("is_refused", [False, True])
def test_memory_that_cuda_refuses_to_lock_is_said_once_and_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_refused: bool
) -> None:
    memory = np.zeros(4096, np.uint8)
    asked: list[Any] = []

    def register(*arguments: int) -> int:
        asked.append(arguments)
        return 801 if is_refused else 0

    def check(code: int) -> None:
        if code:
            raise RuntimeError("operation not supported")

    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=register))
    monkeypatch.setattr(torch.cuda, "check_error", check)
    assert _device().register(memory) is not is_refused
    assert asked == [(memory.ctypes.data, 4096, 0)]
    assert caplog.text.count("operation not supported") == is_refused


def test_the_error_of_a_refusal_does_not_reach_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA tells the next launch of a kernel of it once more."""
    pending = [RuntimeError("operation not supported")]
    zeros = torch.zeros

    def launch(*size: Any, **options: Any) -> torch.Tensor:
        if pending:
            raise pending.pop()
        return zeros(*size, **options)

    def refuse() -> Any:
        raise RuntimeError("operation not supported")

    monkeypatch.setattr(torch.cuda, "cudart", refuse)
    monkeypatch.setattr(torch, "zeros", launch)
    assert not _device().register(np.zeros(4096, np.uint8))
    assert torch.zeros(1).item() == 0
