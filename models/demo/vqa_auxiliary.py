"""What the vision part is also taught while training, from the scene's own truth; nothing of it is shipped.

Answers alone say little about a picture. These small heads ask every patch what shape and colour it shows, and where
its shape's centre is, and ask the summary token for counts; the vision part learns to see in minutes that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.demo.colours import COLOURS
from models.demo.questions import Thing
from models.demo.shapes import SHAPES
from models.demo.vqa_architecture import GRID, PATCH_SIZE, WIDTH
from models.demo.vqa_dataset import MAX_OBJECTS

if TYPE_CHECKING:
    import torch

_SHAPE_IDS = {name: index for index, name in enumerate(SHAPES, 1)}
_COLOUR_IDS = {name: index for index, name in enumerate(COLOURS, 1)}
_MAX_COUNT = 3  # of one shape or one colour; more than that count as that
_NUM_NAMES = len(SHAPES) + len(COLOURS)
_NUM_PATCH_OUTPUTS = (1 + len(SHAPES), 1 + len(COLOURS), 1, 2)
_NUM_SUMMARY_OUTPUTS = (1 + MAX_OBJECTS, _NUM_NAMES * (1 + _MAX_COUNT))


@dataclass(frozen=True)
class Truth:
    """Float32 tensors about n pictures, and int64 counts.

    `shapes` and `colours` (n, patches, 1 + names) are shares of each patch, first the background's; `centres`
    (n, patches) is 1 where a shape's centre lies; `places` (n, patches, 2) the x and y of the centre of the shape
    that owns most of the patch, `weights` (n, patches) how much of it; `totals` (n) and `counts` (n, names).
    """

    shapes: torch.Tensor
    colours: torch.Tensor
    centres: torch.Tensor
    places: torch.Tensor
    weights: torch.Tensor
    totals: torch.Tensor
    counts: torch.Tensor


def truth(shares: Any, seen: Sequence[Sequence[Thing]]) -> Truth:
    """The truth from patch shares (n, rows, columns, 1 + MAX_OBJECTS) uint8 and the things in each picture."""
    import torch

    num = len(seen)
    shapes, colours = np.zeros((num, 1 + MAX_OBJECTS), int), np.zeros((num, 1 + MAX_OBJECTS), int)
    positions = np.zeros((num, 1 + MAX_OBJECTS, 2), np.float32)
    centres = np.zeros((num, GRID * GRID), np.float32)
    counts = np.zeros((num, _NUM_NAMES), np.int64)
    for index, picture in enumerate(seen):
        for number, thing in enumerate(picture, 1):
            shapes[index, number], colours[index, number] = _SHAPE_IDS[thing.shape], _COLOUR_IDS[thing.colour]
            positions[index, number] = thing.x, thing.y
            centres[index, int(thing.y * GRID) * GRID + int(thing.x * GRID)] = 1
            counts[index, _SHAPE_IDS[thing.shape] - 1] += 1
            counts[index, len(SHAPES) + _COLOUR_IDS[thing.colour] - 1] += 1
    parts = np.ascontiguousarray(shares).reshape(num, GRID * GRID, -1).astype(np.float32) / PATCH_SIZE**2
    owner = parts[..., 1:].argmax(-1) + 1
    rows = np.arange(num)[:, None]
    return Truth(
        torch.from_numpy(parts @ np.eye(1 + len(SHAPES), dtype=np.float32)[shapes]),
        torch.from_numpy(parts @ np.eye(1 + len(COLOURS), dtype=np.float32)[colours]),
        torch.from_numpy(centres),
        torch.from_numpy(positions[rows, owner]),
        torch.from_numpy(parts[..., 1:].max(-1)),
        torch.tensor([len(picture) for picture in seen]),
        torch.from_numpy(counts.clip(max=_MAX_COUNT)),
    )


def make_heads() -> Any:
    """A module with random weights: one linear layer for patches, one for the summary token."""
    from torch import nn

    return nn.ModuleDict(
        {
            "patches": nn.Linear(WIDTH, sum(_NUM_PATCH_OUTPUTS)),
            "summary": nn.Linear(WIDTH, sum(_NUM_SUMMARY_OUTPUTS)),
        }
    )


def losses(heads: Any, states: torch.Tensor, known: Truth) -> dict[str, torch.Tensor]:
    """One scalar for each thing taught, from the vision part's output (n, 1 + patches, width)."""
    from torch.nn import functional

    shapes, colours, centres, places = heads["patches"](states[:, 1:]).split(_NUM_PATCH_OUTPUTS, dim=-1)
    totals, counts = heads["summary"](states[:, 0]).split(_NUM_SUMMARY_OUTPUTS, dim=-1)
    distance = (places.sigmoid() - known.places).abs().sum(-1)
    return {
        "shape": functional.cross_entropy(shapes.flatten(0, 1), known.shapes.flatten(0, 1)),
        "colour": functional.cross_entropy(colours.flatten(0, 1), known.colours.flatten(0, 1)),
        "centre": 4 * functional.binary_cross_entropy_with_logits(centres.squeeze(-1), known.centres),
        "place": 2 * (distance * known.weights).sum() / known.weights.sum().clamp(min=1),
        "total": 0.3 * functional.cross_entropy(totals, known.totals),
        "count": functional.cross_entropy(counts.reshape(-1, 1 + _MAX_COUNT), known.counts.reshape(-1)),
    }
