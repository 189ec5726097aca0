"""The probe beside a stand-in for torch, whose GPUs do what a test wants."""

from __future__ import annotations

import os
from pathlib import Path

from server.doctor.gpu_facts import Torch
from server.doctor.probe import Probe

STAND_IN = """
import types, warnings
__version__ = "2.15.0+cu130"
version = types.SimpleNamespace(cuda="13.0")
_C = types.SimpleNamespace(_cuda_getArchFlags=lambda: "sm_90 compute_120")
float32 = None
class Tensor:
    def __init__(self, value=1): self.value = value
    def to(self, device):
        if device == "cuda:1": raise RuntimeError("CUDA error: an illegal memory access\\nmore lines")
        return Tensor(self.value + (1 if device == "cuda:2" else 0))
    def __add__(self, other): return Tensor(self.value + other.value)
    def cpu(self): return self
def arange(number, dtype): return Tensor()
def equal(a, b): return a.value == b.value
class cuda:
    @staticmethod
    def is_available():
        warnings.warn("CUDA initialization: the driver is old")
        return {available}
    device_count = staticmethod(lambda: 3)
    get_device_name = staticmethod(lambda index: "H200")
    get_device_capability = staticmethod(lambda index: (9, 0))
    mem_get_info = staticmethod(lambda index: (40, 100))
"""


def ask(folder: Path, text: str) -> Torch:
    (folder / "torch.py").write_text(text)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}
    return Torch.read(Probe("models.probes.torch_probe", environment, 60.0).answer())


def test_each_gpu_computes_or_says_why_not(tmp_path: Path) -> None:
    torch = ask(tmp_path, STAND_IN.format(available=True))
    assert (torch.version, torch.num_gpus, torch.architectures) == (
        "2.15.0+cu130",
        3,
        ("sm_90", "compute_120"),
    )
    assert [gpu.failure for gpu in torch.gpus] == [
        "", "RuntimeError: CUDA error: an illegal memory access", "a sum came back wrong",
    ]  # fmt: skip
    assert (torch.gpus[0].name, torch.gpus[0].capability, torch.gpus[0].free, torch.gpus[0].total) == (
        "H200",
        (9, 0),
        40,
        100,
    )


def test_without_a_usable_gpu_torchs_warnings_are_kept(tmp_path: Path) -> None:
    torch = ask(tmp_path, STAND_IN.format(available=False))
    assert (torch.num_gpus, torch.gpus, torch.failure) == (0, (), "")
    assert list(torch.warnings) == ["CUDA initialization: the driver is old"]


def test_a_torch_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    torch = ask(tmp_path, "raise OSError('libtorch_cuda.so: file too short')")
    assert (torch.version, torch.failure) == ("", "OSError: libtorch_cuda.so: file too short")
