"""From a network in PyTorch to one for OpenVINO. Runs in a worker; torch and openvino are imported inside."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.faults import is_out_of_memory
from models.runtimes.converted import NETWORK

if TYPE_CHECKING:
    import openvino
    import torch

EXAMPLE_ROWS = 2
"""Not one: a dimension of one is taken for a constant more easily."""
NOT_CONVERTED = "network not converted"
"""The event under which the log says why."""
NO_OPENVINO = "openvino is not possible for this network; the log says why"
"""What everybody may read of it: what a library said names files and places in code."""


class ConversionError(Exception):
    """This network cannot be converted, or answers otherwise afterwards; it runs in PyTorch as before."""


def convert(network: torch.nn.Module, shape: tuple[int, int, int]) -> openvino.Model:
    """`network` for batches of any size of uint8 RGB images of `shape`, (height, width, 3).

    Turning them to floats from 0 to 1, channels first, is part of it. Outputs: what is to be post-processed, and where
    there are the prototypes of masks. Raises ConversionError.
    """
    import openvino
    import torch

    example = torch.zeros((EXAMPLE_ROWS, *shape), dtype=torch.uint8)
    try:
        # The library traces its own exports; torch would rather see its newer ways, which these networks defeat.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            graph = _graph(network)
            graph(
                example
            )  # the head remembers its anchors on the first call, so no second trace is like the first
            traced = torch.jit.trace(graph, example, check_trace=False)
            converted = openvino.convert_model(traced, example_input=example)
        converted.reshape([-1, *shape])
    except (MemoryError, OSError):
        raise
    except Exception as error:  # tracer and frontend raise whatever they like
        if is_out_of_memory(error):  # says nothing about the network
            raise
        raise ConversionError(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return converted


def _graph(network: torch.nn.Module) -> Any:
    """A module from uint8 images to the head's raw output."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: torch.Tensor) -> Any:
            output = self.network(pixels.permute(0, 3, 1, 2).float() / 255.0)
            raw = output[0] if isinstance(output, (tuple, list)) else output
            return tuple(raw) if isinstance(raw, (tuple, list)) else raw

    return Graph().eval()


def save_network(network: openvino.Model, folder: Path, name: str = NETWORK) -> None:
    """As `folder`/`name` (.xml) and .bin, its constants as they are. Raises OSError."""
    import openvino

    try:
        openvino.save_model(network, folder / name, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk is no OSError to it
        raise OSError(str(error).splitlines()[0]) from error


def read_network(path: Path) -> openvino.Model:
    """What `save_network` wrote, constants mapped from the file. Raises ConversionError."""
    import openvino

    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ConversionError(f"{path} cannot be read: {error}".splitlines()[0]) from error
