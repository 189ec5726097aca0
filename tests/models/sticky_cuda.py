"""CUDA as it fails, without a GPU: an error, once there, comes back from every call until the process ends.

Codes and texts are those of the CUDA runtime; torch raises them as `AcceleratorError` since 2.8, and those of cuDNN as
plain `RuntimeError`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

NAMES = {
    700: "an illegal memory access was encountered",
    702: "the launch timed out and was terminated",
    710: "device-side assert triggered",
    716: "misaligned address",
    719: "unspecified launch failure",
}


class StickyCuda:
    """Stands in for the device "cuda:0": tensors live on the CPU, `poison` breaks it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.code = 0
        self.num_freed = 0
        ones = torch.ones
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: self.check())
        monkeypatch.setattr(torch.cuda, "empty_cache", self._free)

        def make(*size: Any, device: str) -> torch.Tensor:
            self.check()
            return ones(*size)

        monkeypatch.setattr(torch, "ones", make)

    def poison(self, code: int) -> None:
        """From now on every call fails."""
        self.code = code

    def check(self) -> None:
        """What every call of CUDA does."""
        if self.code:
            error = torch.AcceleratorError(f"CUDA error: {NAMES[self.code]}")
            error.error_code = self.code  # type: ignore[attr-defined]
            raise error

    def _free(self) -> None:
        self.num_freed += 1
