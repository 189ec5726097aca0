"""The detector's pictures on disk, in the folder layout that the ultralytics library trains from."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from models.demo.scenes import Scene, draw_scene
from models.demo.shapes import SHAPES


def label_lines(scene: Scene) -> str:
    """The scene's truth as YOLO label text: class, then centre x, centre y, width, height as shares of the picture."""
    height, width = scene.image.shape[:2]
    lines = []
    for thing in scene.objects:
        x1, y1, x2, y2 = thing.box
        numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{SHAPES.index(thing.shape)} " + " ".join(f"{number:.6f}" for number in numbers))
    return "".join(line + "\n" for line in lines)


def _write_scene(folder: Path, split: str, seed: int) -> int:
    scene = draw_scene(seed)
    (folder / "images" / split / f"{seed}.jpg").write_bytes(scene.jpeg())
    (folder / "labels" / split / f"{seed}.txt").write_text(label_lines(scene))
    return len(scene.objects)


def write_split(folder: Path, split: str, seeds: Iterable[int], num_processes: int) -> int:
    """Draw the scenes of these seeds into `images/<split>` and `labels/<split>`. Returns the number of objects.

    Raises OSError where the folder cannot be written.
    """
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(num_processes) as workers:
        return sum(workers.map(partial(_write_scene, folder, split), seeds, chunksize=32))


def write_index(folder: Path) -> Path:
    """The file that names the splits and classes; returns its path. Paths inside it are relative to the folder."""
    names = "".join(f"  {index}: {shape}\n" for index, shape in enumerate(SHAPES))
    index = folder / "shapes.yaml"
    index.write_text(
        f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n{names}"
    )
    return index
