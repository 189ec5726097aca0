"""Which boxes of a head's raw output stay, where that is a tensor on a GPU: nothing but what stays leaves the device.

All rows of a batch together, for every launch and every wait costs as much as the work of a row. Runs in a worker;
torch is imported inside.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.candidates import CLASS_OFFSET, MAX_CANDIDATES, Layout, Limits
from models.overlaps import Floats

if TYPE_CHECKING:
    import torch

MAX_TOGETHER = 8192  # boxes of all rows: their pairs are a bit each, 8 MB, and as many comparisons in float64
MAX_COORDINATE = float(2**24)  # pixels; classes moved apart lie below, and what lies beyond is no place
ROW_OFFSET = float(
    2**26
)  # pixels by which rows are moved apart; float64 still has millionths of a pixel there
MAX_PAIRS = 1_000_000  # of rotated boxes compared at once: a dozen intermediate results of 4 MB


@cache
def can_suppress() -> bool:
    """Whether torchvision's compiled operator is there.

    Importing torchvision takes seconds (it pulls in torch._dynamo); loading the operator alone takes milliseconds.
    """
    import torch

    operators: Any = torch.ops
    found = importlib.util.find_spec("torchvision")
    for folder in (found.submodule_search_locations or []) if found else []:
        for extension in sorted(Path(folder).glob("_C*.so")):
            with suppress(OSError):  # built for another torch
                operators.load_library(extension)
                return True
    return False


def kept_boxes(raw: torch.Tensor, layout: Layout, limits: Sequence[Limits]) -> list[Floats]:
    """`models.candidates.kept_boxes` for anchors on a device."""
    import torch

    with torch.inference_mode():
        found, row_numbers = _found(raw, layout, limits)
        find = _rotated_ones if layout.rotated else _upright_ones
        kept = find(found, row_numbers, limits)
        both = torch.cat((found[kept], row_numbers[kept, None].float()), 1).cpu().numpy()
    rows = [both[both[:, -1] == index, :-1] for index in range(len(limits))]
    return [row[: each.max_detections] for row, each in zip(rows, limits, strict=True)]


def _found(raw: torch.Tensor, layout: Layout, limits: Sequence[Limits]) -> tuple[torch.Tensor, torch.Tensor]:
    """What is wanted of all rows' anchors: (boxes, 6 + extra), row after row and best first, and their rows."""
    import torch

    best, numbers = raw[:, 4 : 4 + layout.num_classes].max(1)
    thresholds = raw.new_tensor([each.confidence for each in limits])
    is_wanted = (best > thresholds[:, None]) & raw.isfinite().all(1)
    if any(each.classes is not None for each in limits):
        is_wanted &= _asked_for(layout.num_classes, limits).to(raw.device).gather(1, numbers)
    row_numbers, anchors = is_wanted.nonzero(as_tuple=True)
    order = best[row_numbers, anchors].argsort(descending=True, stable=True)
    order = order[row_numbers[order].argsort(stable=True)]
    row_numbers, anchors = row_numbers[order], anchors[order]
    if raw.shape[-1] > MAX_CANDIDATES:
        counts = row_numbers.bincount(minlength=len(limits))
        rank = torch.arange(len(anchors), device=raw.device) - (counts.cumsum(0) - counts)[row_numbers]
        is_seen = rank < MAX_CANDIDATES
        row_numbers, anchors = row_numbers[is_seen], anchors[is_seen]
    columns = raw[row_numbers, :, anchors]
    place, _, extra = columns.tensor_split((4, 4 + layout.num_classes), 1)
    if not layout.rotated:
        centre, half = place[:, :2], place[:, 2:] / 2
        place = torch.cat((centre - half, centre + half), 1)
    scored = torch.stack((best[row_numbers, anchors], numbers[row_numbers, anchors].float()), 1)
    return torch.cat((place, scored, extra), 1), row_numbers


def _asked_for(num_classes: int, limits: Sequence[Limits]) -> torch.Tensor:
    """(rows, classes): whether a row wants to hear of a class."""
    import torch

    wanted = np.ones((len(limits), num_classes), bool)
    for own, each in zip(wanted, limits, strict=True):
        if each.classes is not None:
            own[:] = np.isin(np.arange(num_classes), each.classes)
    return torch.from_numpy(wanted)


def _upright_ones(found: torch.Tensor, row_numbers: torch.Tensor, limits: Sequence[Limits]) -> torch.Tensor:
    """Indices of those that no better one of their row and class overlaps; each row's best first."""
    import torch

    operators: Any = torch.ops
    nms = operators.torchvision.nms
    corners = (found[:, :4] + found[:, 5:6] * CLASS_OFFSET).double()
    if len(found) <= MAX_TOGETHER and len({each.iou for each in limits}) == 1:
        corners.clamp_(-MAX_COORDINATE, MAX_COORDINATE).add_(row_numbers[:, None] * ROW_OFFSET)
        kept: torch.Tensor = nms(corners, found[:, 4].double(), limits[0].iou)
        return kept
    parts = _parts(row_numbers, limits)
    return torch.cat([nms(corners[own], found[own, 4].double(), each.iou) + own.start for own, each in parts])


def _rotated_ones(found: torch.Tensor, row_numbers: torch.Tensor, limits: Sequence[Limits]) -> torch.Tensor:
    """Indices of those that no better one of their row and class overlaps; each row's best first."""
    import torch

    offset = found[:, 5:6] * CLASS_OFFSET
    shapes = torch.cat((found[:, :2] + offset, found[:, 2:4], found[:, -1:]), 1)
    parts = _parts(row_numbers, limits)
    stays = [first_not_overlapped(shapes[own], each.iou, each.max_detections) for own, each in parts]
    return torch.cat(stays).nonzero().squeeze(1)


def _parts(row_numbers: torch.Tensor, limits: Sequence[Limits]) -> list[tuple[slice, Limits]]:
    """Where each row's boxes lie, and its limits."""
    stops = row_numbers.bincount(minlength=len(limits)).cumsum(0).tolist()
    return [(slice(start, stop), each) for start, stop, each in zip([0, *stops], stops, limits, strict=False)]


def first_not_overlapped(shapes: torch.Tensor, iou: float, max_count: int) -> torch.Tensor:
    """Which of `shapes` no shape before them overlaps by more than `iou`, at least for the first `max_count` such.

    `shapes` is (count, 5): centre, size and angle, best first. The same as the library's `fast_nms` with
    `batch_probiou`, a block of columns at a time, and not much further than is asked for.
    """
    import torch
    from ultralytics.utils.metrics import batch_probiou

    overlap_of: Any = batch_probiou
    stays = torch.zeros(len(shapes), dtype=torch.bool, device=shapes.device)
    start = 0
    while start < len(shapes):
        stop = min(start + max(MAX_PAIRS // (start + 1000), 1), len(shapes))
        overlaps = overlap_of(shapes[:stop], shapes[start:stop]).triu_(diagonal=1 - start)
        stays[start:stop] = (overlaps > iou).logical_not_().all(0)
        start = stop
        if start < len(shapes) and int(stays.sum()) >= max_count:
            break
    return stays
