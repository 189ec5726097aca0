"""Write the sample scenes that ship with the demo models, each with its truth as JSON beside it.

    python -m models.demo.make_samples

Their seeds lie outside those of every training, validation and test set.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from models.demo.scenes import SAMPLE_SEEDS, Scene, SceneSettings, draw_scene

SAMPLES = Path(__file__).with_name("samples")

_LANDSCAPE, _PORTRAIT = (640, 480), (480, 640)
_ORIENTATION_TAG = 0x0112
_ROTATED = 6  # stored a quarter turn anticlockwise, to be shown turned back clockwise


@dataclass(frozen=True)
class Sample:
    """One file to write. `size` is (width, height) as displayed; `rotated` stores it turned, with an EXIF tag."""

    name: str
    seed: int
    size: tuple[int, int] = _LANDSCAPE
    num_objects: tuple[int, int] = (4, 5)
    rotated: bool = False

    def scene(self) -> Scene:
        """The sample's scene, as displayed."""
        low, high = self.num_objects
        return draw_scene(
            self.seed,
            SceneSettings(
                sizes=(self.size,), min_objects=low, max_objects=high, min_extent=0.18, max_extent=0.45,
                jpeg_qualities=(82, 82),
            ),
        )  # fmt: skip


#: `sample` is the one that the documentation and the self-check use.
CHOSEN: tuple[Sample, ...] = (
    Sample("sample", SAMPLE_SEEDS + 9),
    Sample("portrait", SAMPLE_SEEDS + 101, size=_PORTRAIT, num_objects=(3, 4)),
    Sample("crowded", SAMPLE_SEEDS + 211, num_objects=(7, 8)),
    Sample("rotated", SAMPLE_SEEDS + 4, rotated=True),
)


def truth(sample: Sample, scene: Scene) -> dict[str, Any]:
    """What is in the picture; sizes and boxes are in pixels of the displayed picture."""
    height, width = scene.image.shape[:2]
    return {
        "image": f"{sample.name}.jpg",
        "seed": scene.seed,
        "width": width,
        "height": height,
        "background": scene.background,
        "objects": [asdict(thing) for thing in scene.objects],
    }


def encode(sample: Sample, scene: Scene) -> bytes:
    """The sample's JPEG file."""
    if not sample.rotated:
        return scene.jpeg()
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _ROTATED
    stored = Image.fromarray(scene.image).transpose(Image.Transpose.ROTATE_90)
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=scene.jpeg_quality, exif=exif)
    return buffer.getvalue()


def write_samples(folder: Path) -> None:
    """Write every chosen sample into the folder. Raises OSError where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in CHOSEN:
        scene = sample.scene()
        (folder / f"{sample.name}.jpg").write_bytes(encode(sample, scene))
        (folder / f"{sample.name}.json").write_text(json.dumps(truth(sample, scene), indent=2) + "\n")


if __name__ == "__main__":
    write_samples(SAMPLES)
