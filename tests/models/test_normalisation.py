from __future__ import annotations

from pathlib import Path

import numpy as np

from models.normalisation import Normalisation
from tests.models.blip_folder import save_blip
from tests.models.blip_library import Library, pictures


def test_pixels_are_normalised_as_the_processor_does(tmp_path: Path) -> None:
    import torch

    folder = save_blip(tmp_path / "tiny")

    images = pictures()
    expected = Library(folder).processor(images=images, text=[""] * 4, return_tensors="pt")["pixel_values"]
    found = Normalisation.read(folder).apply(np.stack(images), torch.device("cpu"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
