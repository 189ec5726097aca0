import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.demo.make_samples import CHOSEN, SAMPLES, Sample, encode, truth
from models.demo.scenes import SAMPLE_SEEDS

_NAMES = [sample.name for sample in CHOSEN]


@pytest.mark.parametrize("sample", CHOSEN, ids=_NAMES)
def test_a_shipped_truth_is_what_the_script_writes(sample: Sample) -> None:
    expected = json.loads(json.dumps(truth(sample, sample.scene())))
    assert json.loads((SAMPLES / f"{sample.name}.json").read_text()) == expected


@pytest.mark.parametrize("sample", CHOSEN, ids=_NAMES)
def test_a_shipped_picture_shows_its_scene_upright(sample: Sample) -> None:
    # Not byte by byte: another build of the JPEG library may encode the same pixels differently.
    with Image.open(SAMPLES / f"{sample.name}.jpg") as stored:
        shown = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    scene = sample.scene()
    assert shown.shape == scene.image.shape
    assert np.abs(shown - scene.image).mean() < 6


@pytest.mark.parametrize("sample", CHOSEN, ids=_NAMES)
def test_samples_are_small_and_their_seeds_their_own(sample: Sample) -> None:
    assert (SAMPLES / f"{sample.name}.jpg").stat().st_size < 60_000
    assert sample.seed >= SAMPLE_SEEDS


def test_one_sample_is_a_portrait_and_one_is_stored_turned() -> None:
    displayed = {sample.name: sample.size for sample in CHOSEN}
    assert displayed["portrait"] == (480, 640)
    turned = next(sample for sample in CHOSEN if sample.rotated)
    with Image.open(io.BytesIO(encode(turned, turned.scene()))) as stored:
        assert stored.getexif()[0x0112] == 6
        assert stored.size == turned.size[::-1]
