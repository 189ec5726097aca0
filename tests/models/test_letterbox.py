from __future__ import annotations

import numpy as np
import pytest

from models.letterbox import Letterbox
from tests.models.networks import letterboxed

SHAPES = [(480, 640), (1080, 810), (333, 517), (31, 20), (7, 300), (1, 1), (900, 100), (4000, 6000)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("input_shape", [(640, 640), (320, 640), (224, 192)])
def test_places_are_those_of_the_library(shape: tuple[int, int], input_shape: tuple[int, int]) -> None:
    import torch
    from ultralytics.utils import ops

    points = np.random.default_rng(0).uniform(-50, 700, (40, 3, 3)).astype(np.float32)
    letterbox = Letterbox.between(shape, input_shape)
    found = points.copy()
    letterbox.undo(found)
    letterbox.clip(found)
    expected = ops.scale_coords(input_shape, torch.from_numpy(points.copy()), shape)
    np.testing.assert_array_equal(found, expected.numpy())

    rotated = points.reshape(-1, 9)[:, :5].copy()
    expected = ops.scale_boxes(input_shape, torch.from_numpy(rotated.copy()), shape, xywh=True)
    letterbox.undo(rotated[:, :2])
    letterbox.undo_size(rotated[:, 2:4])
    np.testing.assert_array_equal(rotated, expected.numpy())


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_the_original_lies_where_it_is_put(shape: tuple[int, int]) -> None:
    pixels = letterboxed(np.full((*shape, 3), 255, np.uint8), 320, 256)
    letterbox = Letterbox.between(shape, (320, 256))
    rows, columns = (pixels[..., 0] == 255).nonzero()
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], np.float32)
    letterbox.undo(corners)
    np.testing.assert_allclose(corners, [[0, 0], [shape[1], shape[0]]], atol=1e-3)
