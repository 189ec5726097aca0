from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.runs import mask_runs, run_length_text

Mask = npt.NDArray[np.uint8]


def logits(height: int, width: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Smooth ones, as of a network, with some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width) * 6.0
    waves = np.sin(y * 2 + random.normal()) + np.cos(x * 3 - y + random.normal())
    return (waves + random.normal(size=(height, width)) * 0.2).astype(np.float32)


def drawn(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape[0] * shape[1], np.uint8)
    for start, end in zip(starts, ends, strict=True):
        assert not mask[start:end].any()
        mask[start:end] = 1
    return mask.reshape(shape, order="F")


def read_text(text: str, shape: tuple[int, int]) -> Mask:
    """`rleFrString` and `rleDecode` of maskApi.c, in Python."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        number, group, more = 0, 0, True
        while more:
            character = ord(text[position]) - 48
            number |= (character & 0x1F) << (5 * group)
            more = bool(character & 0x20)
            position += 1
            group += 1
            if not more and character & 0x10:
                number |= -1 << (5 * group)
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    assert sum(counts) == shape[0] * shape[1]
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).astype(np.uint8).reshape(shape, order="F")


@pytest.mark.parametrize("shape", [
    (480, 640), (640, 480), (333, 517), (160, 160), (40, 40), (31, 20), (7, 300), (1, 1), (900, 100), (37, 41), (640, 640),
])  # fmt: skip
@pytest.mark.parametrize("size", [(40, 40), (24, 40)])
def test_runs_are_the_librarys_native_mask(shape: tuple[int, int], size: tuple[int, int]) -> None:
    from ultralytics.utils import ops

    height, width = shape
    boxes = [
        [0.0, 0.0, width, height],
        [width * 0.2, height * 0.3, width * 0.7, height * 0.71],
        [width * 0.4, 0.0, width * 0.4 + 1.5, height],
        [width * 0.9, height * 0.5, width, height],
    ]
    values = logits(*size, seed=height)
    prototypes = torch.from_numpy(values)[None]
    expected = ops.process_mask_native(prototypes, torch.ones(len(boxes), 1), torch.tensor(boxes), shape)
    for box, mask in zip(boxes, expected.numpy(), strict=True):
        starts, ends = mask_runs(values, box, shape)
        assert (np.diff(starts) > 0).all() and (ends > starts).all() and (starts[1:] > ends[:-1]).all()
        found = drawn(starts, ends, shape)
        assert (found != mask).sum() <= mask.size * 1e-4  # a tie in the last digit
        np.testing.assert_array_equal(read_text(run_length_text(starts, ends, mask.size), shape), found)


def test_a_box_without_pixels_has_no_runs() -> None:
    for box in ([5.0, 5.0, 5.0, 9.0], [5.2, 0.0, 5.9, 9.0], [3.0, 9.0, 8.0, 2.0]):
        starts, ends = mask_runs(np.ones((40, 40), np.float32), box, (160, 160))
        assert len(starts) == len(ends) == 0


@pytest.mark.parametrize(("mask", "text"), [
    # Worked out by hand from COCO's maskApi.c
    ([[0, 0], [0, 1]], "31"), ([[1, 1], [1, 1]], "04"), ([[1, 0], [0, 0]], "013"),
])  # fmt: skip
def test_run_lengths_are_written_as_coco_does(mask: list[list[int]], text: str) -> None:
    flat = np.array(mask).T.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=0))
    assert run_length_text(edges[0::2], edges[1::2], flat.size) == text


def test_long_and_falling_runs_survive_the_text() -> None:
    random = np.random.default_rng(0)
    edges = np.cumsum(random.integers(1, [[5, 100_000]] * 50).ravel())
    mask = (np.arange(int(edges[-1])) * 0).astype(np.uint8)
    for start, end in zip(edges[0:-1:2], edges[1::2], strict=True):
        mask[start:end] = 1
    text = run_length_text(edges[0:-1:2], edges[1::2], mask.size)
    np.testing.assert_array_equal(read_text(text, (mask.size, 1))[:, 0], mask)
