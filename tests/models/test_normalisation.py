from __future__ import annotations

from pathlib import Path

import numpy as np

from models.normalisation import Normalisation
from tests.models.blip_folder import save_blip
from tests.models.blip_library import Library, pictures


def test_what_is_read_is_what_the_processor_does(tmp_path: Path) -> None:
    folder = save_blip(tmp_path / "tiny")
    images = pictures()
    expected = Library(folder).processor(images=images, text=[""] * 4, return_tensors="pt")["pixel_values"]
    read = Normalisation.read(folder)
    assert read.size == images[0].shape[:2]
    found = (np.stack(images) * read.scale - np.array(read.mean)) / np.array(read.std)
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected.numpy(), rtol=0, atol=1e-6)
