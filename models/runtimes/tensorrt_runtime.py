"""A network in TensorRT on one GPU. Runs in a worker; torch and tensorrt are imported inside.

Pixels come to the GPU, batches overlap and results are read as with PyTorch, see cuda_runtime.py; only what computes is
another. This needs a GPU and the extra `tensorrt`: without them nothing of this file is run by the tests but its errors
and the export to ONNX.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import RuntimeUnavailableError
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.cuda_graphs import torch_dtype
from models.runtimes.tensorrt_engine import INPUT, build, export_onnx, keep, locked, require_tensorrt

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Engine:
    """An engine of TensorRT with memory for one batch of input. Calls go to the current stream."""

    def __init__(
        self,
        serialized: bytes,
        shape: tuple[int, int, int],
        max_batch_size: int,
        device: CudaDevice,
        precision: str,
    ) -> None:
        """`shape` is one image's (height, width, 3). Raises RuntimeUnavailableError if TensorRT does not take it."""
        import torch

        tensorrt = require_tensorrt()
        height, width, channels = shape
        self.batch = torch.zeros(
            (max_batch_size, channels, height, width),
            dtype=torch_dtype(precision),
            device=device.torch_device,
        )
        """(max_batch_size, 3, height, width), values from 0 to 255."""
        self._runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        self._engine = self._runtime.deserialize_cuda_engine(serialized)
        if self._engine is None:
            raise RuntimeUnavailableError("TensorRT does not take this engine; its log says why")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise MemoryError("no memory on the GPU for TensorRT's execution context")
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        self._outputs = [name for name in names if name != INPUT]
        known = {
            tensorrt.DataType.FLOAT: torch.float32,
            tensorrt.DataType.HALF: torch.float16,
            tensorrt.DataType.BF16: torch.bfloat16,
        }
        self._dtypes = [known[self._engine.get_tensor_dtype(name)] for name in self._outputs]
        self._context.set_tensor_address(INPUT, self.batch.data_ptr())

    def run(self, num_rows: int) -> Sequence[torch.Tensor]:
        """Outputs for the first `num_rows` of `batch`, float32 and nobody else's. Raises RuntimeError."""
        import torch

        self._context.set_input_shape(INPUT, (num_rows, *self.batch.shape[1:]))
        outputs = [self._output(name, dtype) for name, dtype in zip(self._outputs, self._dtypes, strict=True)]
        stream = torch.cuda.current_stream(self.batch.device)
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT did not take the batch; its log says why")
        return [output.float() for output in outputs]

    def _output(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        import torch

        shape = tuple(self._context.get_tensor_shape(name))
        output = torch.empty(shape, dtype=dtype, device=self.batch.device)
        self._context.set_tensor_address(name, output.data_ptr())
        return output


def open_engine(
    network: torch.nn.Module,
    shape: tuple[int, int, int],
    max_batch_size: int,
    device: CudaDevice,
    precision: str,
    path: Path | None,
) -> Engine:
    """The engine for `network`: the one kept at `path`, or a new one. Raises RuntimeUnavailableError,
    UnsupportedModelError."""
    if path is None:
        return Engine(
            _build(network, shape, max_batch_size, precision), shape, max_batch_size, device, precision
        )
    with locked(path):
        try:
            return Engine(path.read_bytes(), shape, max_batch_size, device, precision)
        except FileNotFoundError:
            pass
        except (OSError, RuntimeUnavailableError) as error:
            log.warning("the engine at %s is built again: %s", path, error)
        built = _build(network, shape, max_batch_size, precision)
        keep(path, built)
    return Engine(built, shape, max_batch_size, device, precision)


def _build(
    network: torch.nn.Module, shape: tuple[int, int, int], max_batch_size: int, precision: str
) -> bytes:
    import torch

    height, width, channels = shape
    dtype = torch_dtype(precision)
    example = torch.zeros((2, channels, height, width), dtype=dtype)
    return build(export_onnx(network.to(dtype), example, max_batch_size), max_batch_size, shape)
