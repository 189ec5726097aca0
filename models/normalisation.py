"""From a slot's pixels to the floats that a BLIP network takes. In a worker; torch is imported inside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import WeightsInvalidError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What the folder's image processor does to pixels once they have the right size."""

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

    def apply(self, pixels: Any, device: torch.device) -> torch.Tensor:
        """uint8 of (rows, height, width, 3) to float32 of (rows, 3, height, width) on `device`."""
        import torch

        batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).contiguous().float()
        mean = torch.tensor(self.mean, device=device).view(3, 1, 1) / self.scale
        std = torch.tensor(self.std, device=device).view(3, 1, 1) / self.scale
        return (batch - mean) / std
