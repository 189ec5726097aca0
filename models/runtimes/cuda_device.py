"""What the runtimes on an NVIDIA GPU need of CUDA: streams, events, graphs, memory the GPU copies from by itself.

Runs in a worker; torch is imported inside. One class, so that all that is built on it is tested without a GPU.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from models.answers import Pixels

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_NUM_WARM_UPS = 3
"""Runs before a capture: libraries choose kernels and allocate workspaces in the first ones."""


class CudaDevice:
    """One GPU, in this process and thread. Post-processing runs on the thread's default stream, beside the two here:
    streams of PyTorch do not wait for each other unless told to."""

    def __init__(self, device: str) -> None:
        import torch

        self.torch_device = torch.device(device)
        self.copying = torch.cuda.Stream(self.torch_device)
        """Pixels to the device."""
        self.computing = torch.cuda.Stream(self.torch_device)
        """The network."""
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def name(self) -> str:
        """As NVIDIA calls it."""
        import torch

        name: str = torch.cuda.get_device_name(self.torch_device)
        return name

    def on(self, stream: Any) -> contextlib.AbstractContextManager[Any]:
        """What is asked of the device inside is queued on `stream`."""
        import torch

        return torch.cuda.stream(stream)

    def mark(self, stream: Any) -> Any:
        """An event that comes when all that is queued on `stream` now is done. Whoever waits for it sleeps: spinning
        would cost a core."""
        import torch

        event: Any = torch.cuda.Event(blocking=True)
        event.record(stream)
        return event

    def finish(self) -> None:
        """Return when all that was asked of the device is done, on whatever stream."""
        import torch

        torch.cuda.synchronize(self.torch_device)

    def staging(self, shape: Sequence[int]) -> torch.Tensor:
        """Page-locked memory of the machine, uint8."""
        import torch

        return torch.empty(*shape, dtype=torch.uint8, pin_memory=True)

    def capture(self, step: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Record what `step` asks of the device. Returns what repeats it and what `step` gave, which every repetition
        writes again; repetitions share memory, so copy that before another step is repeated. Raises what CUDA or
        PyTorch say to a step that cannot be recorded."""
        import torch

        with torch.cuda.stream(self.computing):
            for _ in range(_NUM_WARM_UPS):
                step()
        self.finish()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self.computing):
            given = step()
        return graph.replay, given

    def hand_over(self, tensors: Sequence[torch.Tensor]) -> None:
        """`tensors` of the computing stream are used on the default one from now on: their memory is not given out
        again before that is through with it."""
        import torch

        for tensor in tensors:
            tensor.record_stream(torch.cuda.default_stream(self.torch_device))

    def register(self, memory: Pixels) -> bool:
        """Lock the pages of `memory`, so that the GPU copies from it by itself. False where that is refused."""
        import torch

        try:
            torch.cuda.check_error(torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0))
        except RuntimeError as error:
            log.warning("slots cannot be page-locked, pixels are copied once more: %s", error)
            # CUDA tells the next kernel's launch of this error again; let that be one nobody needs
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=self.torch_device)
            return False
        return True
