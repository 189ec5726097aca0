"""bfloat16 and half precision imitated on a processor that has neither, to know what they cost in accuracy."""

from __future__ import annotations

from functools import partial
from typing import Any


def emulate(network: Any, dtype: str) -> None:
    """Change `network` (PyTorch, float32) to compute as units of `dtype` ("bfloat16", "float16") do: weights, inputs
    and outputs of every layer that multiplies are rounded to it, sums are kept in float32. What an activation gives
    is rounded too."""
    import torch

    rounded = partial(_rounded, dtype=getattr(torch, dtype))
    multiplies = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    activates = (torch.nn.SiLU, torch.nn.ReLU, torch.nn.GELU, torch.nn.Sigmoid)
    for module in network.modules():
        if isinstance(module, multiplies):
            module.weight.data = rounded(module.weight.data)
            module.register_forward_pre_hook(lambda _, given: tuple(map(rounded, given)))
        if isinstance(module, (*multiplies, *activates)):
            module.register_forward_hook(lambda _, given, output: rounded(output))


def _rounded(tensor: Any, dtype: Any) -> Any:
    import torch

    return tensor.to(dtype).to(torch.float32)
