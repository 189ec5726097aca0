"""Muon, the optimiser of `shapes-vqa`'s weight matrices: momentum whose steps are made orthogonal.

After Keller Jordan, https://kellerjordan.github.io/posts/muon/. torch has one too, but its iteration runs in bfloat16,
which processors without that type only imitate, slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_MOMENTUM = 0.95


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest (half) orthogonal matrices to those of (n, rows, columns), roughly: singular values near 1."""
    first, second, third = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_NUM_ITERATIONS):
        square = x @ x.mT
        x = first * x + (second * square + third * square @ square) @ x
    turned: torch.Tensor = x.mT if is_tall else x
    return turned


class Muon:
    """Steps of equal size in every direction, for matrices (rows, columns); three times as tall as wide is three.

    Matrices of equal shape are turned together: a few large products instead of many small ones.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], weight_decay: float) -> None:
        import torch

        self._by_shape: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for parameter in parameters:
            rows, columns = parameter.shape
            self._by_shape.setdefault((rows, columns), []).append(parameter)
        self._momenta = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self._by_shape.items()
        }
        self._weight_decay = weight_decay

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient, which must be there."""
        import torch

        for (rows, columns), group in self._by_shape.items():
            gradients = torch.stack([_gradient(parameter) for parameter in group])
            momenta = self._momenta[(rows, columns)]
            momenta.lerp_(gradients, 1 - _MOMENTUM)
            blocks = gradients.lerp(momenta, _MOMENTUM)
            if rows == 3 * columns:  # queries, keys and values in one
                blocks, rows = blocks.reshape(-1, columns, columns), columns
            turned = orthogonal(blocks) * max(1, rows / columns) ** 0.5
            for parameter, change in zip(group, turned.reshape(momenta.shape), strict=True):
                with torch.no_grad():
                    parameter.mul_(1 - rate * self._weight_decay).sub_(change, alpha=rate)

    def state(self) -> Any:
        """What `restore` needs to go on."""
        return self._momenta

    def restore(self, state: Any) -> None:
        """Go on from a `state` of the same parameters. Raises KeyError for another's."""
        for shape, momenta in self._momenta.items():
            momenta.copy_(state[shape])


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        raise ValueError("a parameter has no gradient")
    return parameter.grad
