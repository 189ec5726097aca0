from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server.resize import RESIZES, center_crop, enough_for, letterbox, square_bicubic, stretch
from tests.server.images import Pixels, noise

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": tempfile.gettempdir()}


@pytest.fixture(scope="module")
def augment() -> Any:
    """Ultralytics' own; importing it replaces Pillow's `open`, which is put back for the other tests."""
    pillow_open = Image.open
    module = pytest.importorskip("ultralytics.data.augment")
    Image.open = pillow_open
    return module


SIZES = [
    (640, 480), (480, 640), (640, 640), (810, 1080), (333, 777), (1, 1), (3, 5), (5, 3), (1, 1000), (1000, 1),
    (639, 641), (641, 639), (64, 64), (1283, 721), (16384, 3), (3, 16384), (4000, 3000),
]  # fmt: skip


def slot(height: int, width: int) -> Pixels:
    """Unlike anything a resize writes, so that a pixel left out shows."""
    return np.full((height, width, 3), 7, np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", [(640, 640), (64, 64), (384, 640)])
def test_letterbox_is_ultralytics_bit_for_bit(
    augment: Any, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    picture, ours = noise(*size), slot(*shape)
    letterbox(picture, ours)
    theirs = augment.LetterBox(new_shape=shape, auto=False, center=True, scaleup=True)(image=picture)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_stretch_is_ultralytics_bit_for_bit(augment: Any, size: tuple[int, int]) -> None:
    picture, ours = noise(*size), slot(320, 640)
    stretch(picture, ours)
    np.testing.assert_array_equal(ours, augment.LetterBox((320, 640), scale_fill=True)(image=picture))


@pytest.mark.parametrize("size", [size for size in SIZES if max(size) / min(size) <= 4])
@pytest.mark.parametrize("side", [224, 64, 640])
def test_center_crop_is_ultralytics_bit_for_bit(augment: Any, size: tuple[int, int], side: int) -> None:
    picture, ours = noise(*size), slot(side, side)
    center_crop(picture, ours)
    np.testing.assert_array_equal(ours, _classify(augment, picture, side))


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (1283, 21), (50, 251), (2000, 77)])
def test_center_crop_of_a_sliver_is_within_rounding_of_ultralytics(
    augment: Any, size: tuple[int, int]
) -> None:
    picture, ours = noise(*size), slot(64, 64)
    center_crop(picture, ours)
    assert np.abs(ours.astype(int) - _classify(augment, picture, 64)).max() <= 1


def test_center_crop_of_the_worst_sliver_costs_no_memory() -> None:
    ours = slot(224, 224)
    center_crop(noise(16384, 1), ours)  # in full it would be 3.6 million pixels wide
    assert ours.std() > 0


def _classify(augment: Any, picture: Pixels, side: int) -> Pixels:
    resize, crop = augment.classify_transforms(side).transforms[:2]
    return np.asarray(crop(resize(Image.fromarray(picture))))


@pytest.mark.parametrize(
    "size", [(640, 480), (480, 640), (384, 384), (1, 1), (3, 5), (1, 1000), (2000, 1500)]
)
def test_square_bicubic_is_transformers_on_pillow_bit_for_bit(size: tuple[int, int]) -> None:
    pil = pytest.importorskip("transformers.models.blip.image_processing_pil_blip")
    picture, ours = noise(*size), slot(384, 384)
    square_bicubic(picture, ours)
    # Channels first, as a color picture of 1 x 1 x 3 could be either way round.
    theirs = pil.BlipImageProcessorPil()(
        picture.transpose(2, 0, 1), do_rescale=False, do_normalize=False, input_data_format="channels_first"
    )
    np.testing.assert_array_equal(ours.transpose(2, 0, 1), np.asarray(theirs["pixel_values"][0]))


@pytest.mark.parametrize("resize", RESIZES.values())
@pytest.mark.parametrize("size", [(1, 1), (7, 900), (900, 7), (200, 100)])
def test_every_pixel_of_the_slot_is_written(resize: Any, size: tuple[int, int]) -> None:
    first, second = slot(96, 96), np.full((96, 96, 3), 201, np.uint8)
    resize(noise(*size), first)
    resize(noise(*size), second)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [(1000, 600), (600, 1000), (501, 500), (20, 4000)])
def test_what_is_enough_is_not_enlarged_afterwards(size: tuple[int, int]) -> None:
    width, height = size
    for resize in RESIZES:
        enough = enough_for(resize, (64, 96, 3), size)
        assert enough[0] / width == pytest.approx(enough[1] / height, abs=1 / min(size))
        if resize == "letterbox":
            assert enough[0] <= 96 and enough[1] <= 64 and (enough[0] == 96 or enough[1] == 64)
        else:
            assert enough[0] >= 96 and enough[1] >= 64 and (enough[0] == 96 or enough[1] == 64)
