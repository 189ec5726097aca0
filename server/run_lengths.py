"""COCO's compressed run lengths, read. The inverse of models/runs.py, for who draws masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

_MAX_GROUPS = 7
"""Of five bits: 2 ** 34 pixels."""


def runs_of(counts: str, num_pixels: int) -> tuple[Places, Places]:
    """Begins and ends (behind the last) of a mask's runs of pixels, down one column after the other.

    `num_pixels` are those of the whole picture. Raises ValueError for text that is no mask of so many.
    """
    lengths = _lengths(np.frombuffer(counts.encode("ascii"), np.uint8))
    if len(lengths) and (lengths.min() < 0 or lengths.max() > num_pixels):
        raise ValueError("a run is shorter than nothing or longer than the picture")
    edges = np.cumsum(lengths)
    if not len(edges) or edges[-1] != num_pixels:
        raise ValueError("the runs do not make up the picture")
    starts, ends = edges[:-1:2], edges[1::2]
    return starts[: len(ends)], ends


def _lengths(characters: npt.NDArray[np.uint8]) -> Places:
    """Pixels outside, inside, outside ...; from the third on they are written as differences to the one two before."""
    groups = characters.astype(np.int64) - 48
    if not len(groups) or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError("not COCO's run lengths")
    lasts = np.flatnonzero(groups & 32 == 0)
    firsts = np.concatenate(([0], lasts[:-1] + 1))
    sizes = lasts - firsts + 1
    if sizes.max() > _MAX_GROUPS:
        raise ValueError("a run is longer than any picture")
    shifts = 5 * (np.arange(len(groups)) - np.repeat(firsts, sizes))
    numbers = np.add.reduceat((groups & 31) << shifts, firsts)
    numbers -= np.where(groups[lasts] & 16, np.int64(1) << (5 * sizes), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
