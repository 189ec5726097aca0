"""Which boxes of a head's raw output are worth looking at. Runs in a worker; torch is imported inside.

Each row's candidates are picked out with one comparison on the device: the library's suppression of overlaps walks
over all anchors of every row, candidates are few, and each row may have its own threshold.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NUM_BOX_COLUMNS = 6
"""Columns of a found box: four of its place, confidence, class. What a task adds stands behind them."""


def candidates(raw: torch.Tensor, thresholds: Sequence[float], num_classes: int) -> list[torch.Tensor]:
    """Each row's anchors above its own threshold, in the order of anchors, as (1, channels, candidates).

    `raw` is (rows, channels, anchors); channels are four of a box, one score per class, and what the task adds.

    One transfer from the device for all rows. Anchors with a value that is not finite are left out.
    """
    import torch

    above = raw[:, 4 : 4 + num_classes].amax(1) > raw.new_tensor(thresholds).unsqueeze(1)
    row_numbers, anchors = above.nonzero(as_tuple=True)
    picked = raw[row_numbers, :, anchors].cpu()
    counts = torch.bincount(row_numbers, minlength=len(thresholds)).tolist()
    parts = torch.split(picked, counts)
    return [_library_shaped(part[torch.isfinite(part).all(1)]) for part in parts]


def _library_shaped(part: torch.Tensor) -> torch.Tensor:
    """(candidates, channels) as the library wants it: channels before candidates, with a batch of one."""
    import torch

    if part.shape[0] == NUM_BOX_COLUMNS:
        # The library takes a last dimension of 6 for the output of an end-to-end head, so six candidates
        # become seven; the added one has confidence 0 and is never above a threshold.
        part = torch.cat((part, part.new_zeros((1, part.shape[1]))))
    return part.T.unsqueeze(0)


def end2end_rows(raw: torch.Tensor) -> list[torch.Tensor]:
    """Each row's boxes as (1, boxes, 6 + what the task adds), without those that are not finite."""
    import torch

    return [row[torch.isfinite(row).all(1)].unsqueeze(0) for row in raw.cpu()]


def use_compiled_nms(library: Any) -> None:
    """Let the library suppress overlaps with torchvision's compiled operator instead of its loop in Python.

    The library does so by itself only where torchvision was imported, which takes seconds (it pulls in
    torch._dynamo); loading the operator alone takes milliseconds. Both keep the same boxes. Where the
    extension cannot be loaded the loop stays, which costs time only.
    """
    import torch

    operators: Any = torch.ops
    found = importlib.util.find_spec("torchvision")
    for folder in (found.submodule_search_locations or []) if found else []:
        for extension in sorted(Path(folder).glob("_C*.so")):
            with suppress(OSError):  # built for another torch
                operators.load_library(extension)
                library.nms = staticmethod(operators.torchvision.nms)
                return
