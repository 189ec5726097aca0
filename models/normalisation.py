"""What lies between a slot's pixels and the floats that a BLIP network takes. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from models.errors import WeightsInvalidError


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What the folder's image processor does to pixels once they have the right size (height, width): they are
    multiplied by `scale`, and of each channel `mean` is subtracted before it is divided by `std`."""

    size: tuple[int, int]
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path) -> Normalisation:
        """Read the folder's `preprocessor_config.json` or `processor_config.json`. Raises WeightsInvalidError."""
        path = folder / "preprocessor_config.json"
        try:
            if path.is_file():
                stored = json.loads(path.read_text("utf-8"))
            else:
                path = folder / "processor_config.json"
                stored = json.loads(path.read_text("utf-8"))["image_processor"]
            size = stored["size"]
            sides = (size["height"], size["width"]) if isinstance(size, dict) else (size, size)
            scale = stored.get("rescale_factor", 1 / 255) if stored.get("do_rescale", True) else 1.0
            normalises = stored.get("do_normalize", True)
            mean = tuple(stored["image_mean"]) if normalises else (0.0, 0.0, 0.0)
            std = tuple(stored["image_std"]) if normalises else (1.0, 1.0, 1.0)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsInvalidError(f"{path}: {error!r}") from error
        return cls(sides, scale, mean, std)
