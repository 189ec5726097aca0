"""Which runtime a network gets on a GPU, and in what precision. Runs in a worker; torch is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.accuracy import MAX_LOSS, loss
from models.answers import Progress
from models.errors import RuntimeUnavailableError
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.cuda_graphs import recorded
from models.runtimes.cuda_runtime import CudaRuntime
from models.runtimes.tensorrt_engine import engine_path, require_tensorrt
from models.runtimes.tensorrt_runtime import open_engine

if TYPE_CHECKING:
    import torch

AUTO_PRECISION = "fp16"
"""As long as the published table says that it keeps the accuracy; else fp32."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`runtime` is auto, torch or tensorrt, `precision` auto, fp16, bf16 or fp32. `folder` keeps engines, None: they
    are built at each start. `facts` (JSON types) decide the network: its weights and what changes its graph."""

    runtime: str = "auto"
    precision: str = "auto"
    folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def open_on_gpu(
    network: torch.nn.Module,
    shape: tuple[int, int, int],
    max_batch_size: int,
    device: CudaDevice,
    wanted: Wanted,
    progress: Progress,
) -> CudaRuntime:
    """`network` on `device`, ready to run. `shape` is one image's (height, width, 3).

    `auto` is PyTorch: TensorRT takes minutes to build an engine and is not installed by default. Raises
    RuntimeUnavailableError for what cannot be had, UnsupportedModelError for a network that TensorRT does not take.
    """
    if wanted.runtime not in ("auto", "torch", "tensorrt"):
        raise RuntimeUnavailableError(
            f"runtime {wanted.runtime} does not run on a GPU: torch and tensorrt do"
        )
    precision = _auto_precision() if wanted.precision == "auto" else wanted.precision
    if wanted.runtime != "tensorrt":
        graphs = recorded(network, shape, max_batch_size, device, precision)
        return CudaRuntime(graphs, shape, device, "torch", precision)
    require_tensorrt()
    path = _path(wanted, device, {"shape": list(shape), "rows": max_batch_size, "precision": precision})
    progress({"stage": "convert"})
    engine = open_engine(network, shape, max_batch_size, device, precision, path)
    return CudaRuntime(engine, shape, device, "tensorrt", precision)


def _auto_precision() -> str:
    lost = loss("shapes-detect", "torch", AUTO_PRECISION)
    return AUTO_PRECISION if lost is not None and lost <= MAX_LOSS else "fp32"


def _path(wanted: Wanted, device: CudaDevice, facts: Mapping[str, Any]) -> Path | None:
    if wanted.folder is None:
        return None
    return engine_path(wanted.folder, {"gpu": device.name, "network": dict(wanted.facts), **facts})
