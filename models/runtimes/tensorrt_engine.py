"""Engines of TensorRT 11: built from a network in PyTorch by way of ONNX, and kept on the disk.

Runs in a worker on a machine with an NVIDIA GPU; tensorrt, onnxscript and torch are imported inside. An engine is for
one kind of GPU and one version of TensorRT, and building takes minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from models.errors import RuntimeUnavailableError, UnsupportedModelError
from models.runtimes.cuda_graphs import read_tensors

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

INPUT = "pixels"
_PACKAGE = "tensorrt"
_LIBRARIES = {
    "tensorrt": ("tensorrt-cu13", "tensorrt"),
    "torch": ("torch",),
    "onnxscript": ("onnxscript",),
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
}
"""What an engine depends on; some go by two names."""
_FORMAT = 1
"""To be raised whenever what is built changes."""


def require_tensorrt() -> Any:
    """The package. Raises RuntimeUnavailableError where it is not installed or finds no library of NVIDIA's."""
    try:
        return importlib.import_module(_PACKAGE)
    except (ImportError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise RuntimeUnavailableError(
            f"runtime tensorrt needs the extra of that name, pip install '.[tensorrt]' ({reason})"
        ) from error


def engine_path(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Where the engine lies that `facts` (JSON types) and the libraries of today decide."""
    versions = {name: _version(*names) for name, names in _LIBRARIES.items()}
    whole = json.dumps({"format": _FORMAT, "versions": versions, **facts}, sort_keys=True)
    return folder / "tensorrt" / f"{hashlib.sha256(whole.encode()).hexdigest()[:32]}.engine"


def _version(*names: str) -> str:
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return ""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Of two workers that need the same engine one builds it. Where the folder is not ours to write to, both do."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(path.with_suffix(".lock")))
        except OSError as error:
            log.warning("engines are not locked: %s", error)
        yield


def keep(path: Path, engine: bytes) -> None:
    """Write `engine`, whole or not at all. A full disk costs the next start its time, nothing else."""
    try:
        with (
            tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file,
            contextlib.ExitStack() as on_error,
        ):
            on_error.callback(os.unlink, file.name)
            file.write(engine)
            file.flush()
            Path(file.name).replace(path)
            on_error.pop_all()
    except OSError as error:
        log.warning("engine not kept: %s", error)


def export_onnx(network: torch.nn.Module, example: torch.Tensor, max_batch_size: int) -> bytes:
    """`network` in ONNX, types as they are, for batches of 1 to `max_batch_size` images with values from 0 to 255.

    `example` is a batch of at least two. Raises RuntimeUnavailableError without the packages for it,
    UnsupportedModelError for a network that cannot be exported.
    """
    import torch

    rows = torch.export.Dim("rows", min=1, max=max(max_batch_size, 2))
    try:
        with warnings.catch_warnings(), torch.no_grad(), _any_batch_size(network):
            warnings.simplefilter("ignore")
            graph = _graph(network)
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT],
                dynamo=True,
                dynamic_shapes=({0: rows},),
                verbose=False,
            )
            assert program is not None
            # not `save`, which puts the weights into a second file
            onnx = program.model_proto.SerializeToString()
    except ImportError as error:
        raise RuntimeUnavailableError(f"runtime tensorrt needs its extra installed ({error})") from error
    except torch.onnx.OnnxExporterError as error:
        raise UnsupportedModelError(f"no export to ONNX: {error}".splitlines()[0]) from error
    return bytes(onnx)


def _graph(network: torch.nn.Module) -> torch.nn.Module:
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return read_tensors(self.network(pixels / 255))

    return Graph().eval()


@contextlib.contextmanager
def _any_batch_size(network: torch.nn.Module) -> Iterator[None]:
    """The library's heads make their anchors anew for every batch, instead of comparing its size with the last's."""
    heads = [module for module in network.modules() if hasattr(module, "dynamic")]
    before = [head.dynamic for head in heads]
    for head in heads:
        head.dynamic = True  # type: ignore[assignment]
    try:
        yield
    finally:
        for head, value in zip(heads, before, strict=True):
            head.dynamic = value


def build(onnx: bytes, max_batch_size: int, shape: tuple[int, int, int]) -> bytes:
    """An engine for 1 to `max_batch_size` images, fastest with that many. `shape` is one's (height, width, 3).

    Networks are strongly typed: the precision is that of the ONNX graph. Raises UnsupportedModelError.
    """
    tensorrt = require_tensorrt()
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network()
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        reasons = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise UnsupportedModelError(f"TensorRT does not read this network: {reasons}")
    config = builder.create_builder_config()
    config.clear_flag(tensorrt.BuilderFlag.TF32)  # 10-bit mantissas by default; fp32 means fp32
    profile = builder.create_optimization_profile()
    height, width, channels = shape
    one, many = (1, channels, height, width), (max_batch_size, channels, height, width)
    profile.set_shape(INPUT, one, many, many)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UnsupportedModelError("TensorRT cannot build this network; its log says why")
    return bytes(engine)
