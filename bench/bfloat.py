"""bfloat16 imitated on a processor that has none, to know what it costs in accuracy before a machine has it."""

from __future__ import annotations

from typing import Any


def emulate_bfloat16(network: Any) -> None:
    """Change `network` (PyTorch, float32) to compute as bfloat16 units do: weights, inputs and outputs of every layer
    that multiplies are rounded to bfloat16, sums are kept in float32. What an activation gives is rounded too."""
    import torch

    multiplies = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.Linear)
    activates = (torch.nn.SiLU, torch.nn.ReLU, torch.nn.GELU, torch.nn.Sigmoid)
    for module in network.modules():
        if isinstance(module, multiplies):
            module.weight.data = _rounded(module.weight.data)
            module.register_forward_pre_hook(lambda _, given: tuple(map(_rounded, given)))
        if isinstance(module, (*multiplies, *activates)):
            module.register_forward_hook(lambda _, given, output: _rounded(output))


def _rounded(tensor: Any) -> Any:
    import torch

    return tensor.to(torch.bfloat16).to(torch.float32)
