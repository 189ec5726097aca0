"""Which pixels of the original belong to a mask, as runs of pixels; no picture of the original's size is made.

A mask at the original's size is the prototypes' logits, enlarged bilinearly, where they are above 0. Along a column
of the original the enlarged values are straight between two rows of logits, so a run of pixels can begin or end only
where neighbours have different signs, and where exactly is a division. Work and memory go with the columns of the
original times the rows of logits, an order of magnitude less than its pixels. Runs in a worker.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
PROTOTYPE_STRIDE = 4
CONTINUES = 0x20
MAX_GROUPS = 7  # of five bits: 2 ** 34 pixels


def mask_runs(logits: Logits, box: Sequence[float], shape: tuple[int, int]) -> tuple[Places, Places]:
    """Begins and ends (behind the last) of the mask's runs, down one column of the original after the other.

    `logits` are at the prototypes' size, of the letterboxed image; `box` are corners in pixels of the original,
    whose (height, width) is `shape`. The mask is the library's `process_mask_native`.
    """
    height, width = shape
    x1, x2 = (min(max(math.ceil(edge), 0), width) for edge in (box[0], box[2]))
    y1, y2 = (min(max(math.ceil(edge), 0), height) for edge in (box[1], box[3]))
    if x1 >= x2 or y1 >= y2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    picture = _without_padding(logits, shape)
    columns = _columns(picture, np.arange(x1, x2), width)
    first, last = _sources(np.array([y1, y2 - 1]), len(picture), height)
    begin, end = int(first), min(int(last) + 2, len(picture))
    starts, ends = _runs(columns[:, begin:end], begin, len(picture), (y1, y2), height)
    return _merged(starts + x1 * height, ends + x1 * height)


def run_length_text(starts: Places, ends: Places, num_pixels: int) -> str:
    """COCO's compressed run lengths, as pycocotools reads and writes them: pixels outside, inside, outside ...

    Each number, from the third on as the difference to the one two before, lies in groups of five bits, the lowest
    first; a sixth bit says that more follow; 48 is added to make it a character (`rleToString` in maskApi.c).
    """
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[0:-1:2], edges[1::2], edges[-1] = starts, ends, num_pixels
    counts = np.diff(edges, prepend=0)
    if counts[-1] == 0:
        counts = counts[:-1]
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    groups = np.empty((len(numbers), MAX_GROUPS), np.uint8)
    is_used = np.zeros_like(groups, dtype=bool)
    more = np.ones(len(numbers), dtype=bool)
    for index in range(MAX_GROUPS):
        is_used[:, index] = more
        bits = numbers & 0x1F
        numbers >>= 5
        # Done when what is left is all sign, and the sign is that of the group's highest bit.
        goes_on = np.where(bits & 0x10, numbers != -1, numbers != 0)
        groups[:, index] = bits + CONTINUES * goes_on + 48
        more = more & goes_on
    return bytes(groups[is_used]).decode("ascii")


def _without_padding(logits: Logits, shape: tuple[int, int]) -> Logits:
    """The part of `logits` that shows the picture, enlarged first if the padding does not end between two of them."""
    import cv2

    height, width = (PROTOTYPE_STRIDE * side for side in logits.shape)
    gain = min(height / shape[0], width / shape[1])
    padding = (height - max(round(shape[0] * gain), 1)) | (width - max(round(shape[1] * gain), 1))
    factor = PROTOTYPE_STRIDE // math.gcd(PROTOTYPE_STRIDE, padding | padding // 2)
    if factor > 1:
        size = (logits.shape[1] * factor, logits.shape[0] * factor)
        logits = np.asarray(cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    gain = min(logits.shape[0] / shape[0], logits.shape[1] / shape[1])
    new_height, new_width = (max(round(side * gain), 1) for side in shape)
    top = round((logits.shape[0] - new_height) / 2 - 0.1)
    left = round((logits.shape[1] - new_width) / 2 - 0.1)
    return logits[top : top + new_height, left : left + new_width]


def _sources(targets: Places, num_sources: int, num_targets: int) -> npt.NDArray[np.float64]:
    """Where among `num_sources` values the `targets` of `num_targets` lie: 1.5 is between the second and third."""
    places = (targets + 0.5) * (num_sources / num_targets) - 0.5
    return np.clip(places, 0.0, num_sources - 1.0)


def _columns(picture: Logits, columns: Places, width: int) -> Logits:
    """Enlarge sideways only: (columns of the original, rows of `picture`)."""
    places = _sources(columns, picture.shape[1], width)
    left = places.astype(np.int64)
    right = np.minimum(left + 1, picture.shape[1] - 1)
    share = (places - left).astype(np.float32)[:, None]
    turned = np.ascontiguousarray(picture.T)
    enlarged: Logits = turned[right] - turned[left]
    enlarged *= share
    enlarged += turned[left]
    return enlarged


def _runs(
    values: Logits, first_row: int, num_rows: int, between: tuple[int, int], height: int
) -> tuple[Places, Places]:
    """Begins and ends as places column * height + row, some of them empty.

    `values` are columns of logits, the first of row `first_row` of `num_rows`; `between` are the box's rows.
    """
    y1, y2 = between
    is_in = values > 0
    column, row = (is_in[:, 1:] != is_in[:, :-1]).nonzero()
    above, below = values[column, row].astype(np.float64), values[column, row + 1].astype(np.float64)
    zero = first_row + row + above / (above - below)
    edge = (zero + 0.5) * (height / num_rows) - 0.5
    begins = below > above
    place = (
        np.where(begins, np.floor(edge) + 1, np.ceil(edge)).astype(np.int64).clip(y1, y2) + column * height
    )
    in_at_top = is_in[:, 0].nonzero()[0] * height + y1
    in_at_bottom = is_in[:, -1].nonzero()[0] * height + y2
    starts = np.concatenate((in_at_top, place[begins]))
    ends = np.concatenate((in_at_bottom, place[~begins]))
    starts.sort()
    ends.sort()
    return starts, ends


def _merged(starts: Places, ends: Places) -> tuple[Places, Places]:
    """Without empty runs, and those that touch as one (a column's end is the next one's begin)."""
    is_there = ends > starts
    starts, ends = starts[is_there], ends[is_there]
    if not len(starts):
        return starts, ends
    apart = starts[1:] > ends[:-1]
    return starts[np.concatenate(([True], apart))], ends[np.concatenate((apart, [True]))]
