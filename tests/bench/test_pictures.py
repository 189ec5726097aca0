"""Pictures of the benches: each of its own."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from bench.pictures import NUM_PICTURES, Bitmaps, Pictures, bus, distinct_jpegs
from server.resize import letterbox


def _pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_no_two_pictures_have_the_same_pixels_even_when_resized() -> None:
    slots = set()
    pictures = Pictures()
    for number in range(40):
        slot = np.empty((640, 640, 3), np.uint8)
        letterbox(_pixels(pictures.jpeg(number)), slot)
        slots.add(slot.tobytes())
    assert len(slots) == 40


def test_many_pictures_have_bytes_of_their_own() -> None:
    pictures = Pictures()
    assert len({hash(pictures.jpeg(number)) for number in range(3_000)}) == 3_000
    assert pictures.jpeg(NUM_PICTURES) == pictures.jpeg(0) != pictures.jpeg(NUM_PICTURES - 1)


def test_a_picture_put_together_from_strips_decodes_to_the_original_outside_its_patches() -> None:
    (jpeg,) = distinct_jpegs(1)
    original = np.asarray(Image.open(bus()).convert("RGB")).astype(int)
    off = np.abs(_pixels(jpeg).astype(int) - original).max(axis=2) > 60
    assert _pixels(jpeg).shape == original.shape
    assert off.mean() < 0.02


def test_bitmaps_differ_in_their_pixels() -> None:
    bitmaps = Bitmaps()
    assert len({_pixels(bitmaps.bitmap(number)).tobytes() for number in range(300)}) == 300
    assert 130_000 < len(bitmaps.bitmap(0)) < 150_000
