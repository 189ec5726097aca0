"""A network's launches recorded once per batch size and repeated as one: on a fast GPU launching kernel by kernel from
Python takes longer than running them. Runs in a worker; torch is imported inside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.batch_sizes import batch_sizes
from models.errors import RuntimeUnavailableError
from models.runtimes.cuda_device import CudaDevice

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TOLERANCE = 0.02
"""Between what a recorded network gives and the same network run as usual, relative to the largest value of a channel:
the same kernels may add in another order, nothing more."""


def torch_dtype(precision: str) -> torch.dtype:
    """What PyTorch calls fp16, bf16 and fp32. Raises RuntimeUnavailableError for anything else."""
    import torch

    known = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
    if precision not in known:
        raise RuntimeUnavailableError(f"precision {precision} cannot be had on a GPU: {', '.join(known)} can")
    return known[precision]


def read_tensors(output: Any) -> tuple[torch.Tensor, ...]:
    """What of a network's output is read: the first; a pair where that is one."""
    raw = output[0] if isinstance(output, (tuple, list)) else output
    return tuple(raw) if isinstance(raw, (tuple, list)) else (raw,)


def recorded(
    network: torch.nn.Module,
    shape: tuple[int, int, int],
    max_batch_size: int,
    device: CudaDevice,
    precision: str,
) -> Graphs:
    """Move `network` to `device` and record it; `shape` is one image's (height, width, 3).

    Pixels lie height x width x channel in a slot, which is channels_last: no transposition anywhere.
    """
    import torch

    dtype = torch_dtype(precision)
    torch.backends.cudnn.allow_tf32 = False  # 10-bit mantissas by default; fp32 means fp32
    torch.backends.cudnn.benchmark = True  # shapes never change, so the fastest kernel is worth looking for
    network = network.to(device.torch_device, dtype).to(memory_format=torch.channels_last)
    batch = torch.zeros((max_batch_size, *shape), dtype=dtype, device=device.torch_device)
    device.finish()  # all this was asked on the default stream, for which the others do not wait
    with torch.inference_mode():
        return Graphs(device, network, batch.permute(0, 3, 1, 2))


@dataclass(frozen=True, slots=True)
class _Graph:
    repeat: Callable[[], None]
    outputs: tuple[torch.Tensor, ...]
    kept: Any
    """Tensors that the recording reads and the network may replace."""


class Graphs:
    """`network`, recorded for the batch sizes of `batch_sizes`; as it is where that is not possible.

    `batch` is the one input of all recordings, (max_batch_size, 3, height, width) with values from 0 to 255: write
    there, then `run`. A network that gives something else when repeated than when run (its way depends on what it sees)
    is not recorded.
    """

    def __init__(self, device: CudaDevice, network: torch.nn.Module, batch: torch.Tensor) -> None:
        """Record, which runs the network several times for each size."""
        self.batch = batch
        self._device = device
        self._network = network
        self._graphs: dict[int, _Graph] = {}
        try:
            for size in batch_sizes(len(batch)):
                self._graphs[size] = self._record(size)
            self._verify()
        except Exception as error:  # noqa: BLE001  border: whatever prevents a recording, the network itself is left
            log.warning("the network is not recorded as a CUDA graph: %s: %s", type(error).__name__, error)
            self._graphs.clear()

    @property
    def is_recorded(self) -> bool:
        """Whether batches are repeated rather than run kernel by kernel."""
        return bool(self._graphs)

    def _record(self, size: int) -> _Graph:
        part = self.batch[:size]
        repeat, outputs = self._device.capture(lambda: self._forward(part))
        # The library keeps anchors of the last batch size as plain attributes and replaces them with the next size;
        # the recording goes on reading the old ones.
        kept = [
            [*vars(module).values(), *module.buffers(recurse=False)] for module in self._network.modules()
        ]
        return _Graph(repeat, outputs, kept)

    def _verify(self) -> None:
        """Raises ValueError if a recording gives something else than the network, for an image it has not seen."""
        import torch

        noise = torch.randint(0, 256, self.batch.shape, generator=torch.Generator().manual_seed(0))
        with self._device.on(self._device.computing):
            self.batch.copy_(noise)
            for size in self._graphs:
                for found, right in zip(self.run(size), self._forward(self.batch[:size]), strict=True):
                    if not _is_close(found, right.float()):
                        raise ValueError(
                            f"with {size} images it repeats something else than the network gives"
                        )

    def _forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return read_tensors(self._network(batch / 255))

    def run(self, num_rows: int) -> Sequence[torch.Tensor]:
        """Outputs for the first `num_rows` of `batch`, float32 and nobody else's; call on the computing stream."""
        import torch

        size = min((size for size in self._graphs if size >= num_rows), default=None)
        if size is None:
            outputs = self._forward(self.batch[:num_rows])
        else:
            graph = self._graphs[size]
            graph.repeat()
            outputs = graph.outputs
        return [output[:num_rows].to(torch.float32, copy=True) for output in outputs]


def _is_close(found: torch.Tensor, right: torch.Tensor) -> bool:
    """Both (rows, channels, ...). Values that are not finite are close to nothing."""
    rows, channels = right.shape[:2]
    limit = _TOLERANCE * right.reshape(rows, channels, -1).abs().amax((0, 2)) + 1e-6
    differences = (found - right).reshape(rows, channels, -1).abs().amax((0, 2))
    return bool((differences <= limit).all())
