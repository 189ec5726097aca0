"""Pictures and truth of the tasks besides detect, in the folder layouts that the ultralytics library trains from.

The truth comes from the drawn pixels: outlines, the smallest turned rectangle around them, and three keypoints, which
are the middle of a shape's visible pixels and its highest and lowest ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.demo.scenes import Scene, SceneSettings, draw_scene
from models.demo.shapes import SHAPES

Points = NDArray[np.float64]
KEYPOINTS = ("middle", "top", "bottom")
_SIZES = ((256, 192), (192, 256), (224, 224))

#: Their smallest rectangle is longer than wide, or its angle would mean nothing.
LONG_SHAPES = ("heart", "crescent", "arrow")


def scene_settings(task: str) -> SceneSettings:
    """Small pictures of few, large, hardly covered shapes; one of them for `classify`."""
    max_objects, min_extent = (1, 0.5) if task == "classify" else (4, 0.25)
    return SceneSettings(
        sizes=_SIZES,
        max_objects=max_objects,
        min_extent=min_extent,
        max_extent=min_extent + 0.35,
        min_visible=0.95,
        shapes=LONG_SHAPES if task == "obb" else SHAPES,
    )


def outline(scene: Scene, index: int) -> Points:
    """The outline of the largest piece of `objects[index]`: (points, 2), x and y in pixels."""
    owned = (scene.owner == index + 1).astype(np.uint8)
    pieces = cv2.findContours(owned, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    largest = max(pieces, key=cv2.contourArea)
    return np.asarray(largest, np.float64).reshape(-1, 2) + 0.5


def corners(scene: Scene, index: int) -> Points:
    """The smallest turned rectangle around `objects[index]`: (4, 2) in pixels."""
    points = outline(scene, index).astype(np.float32)
    return np.asarray(cv2.boxPoints(cv2.minAreaRect(points)), np.float64)


def keypoints(scene: Scene, index: int) -> Points:
    """(3, 2) in pixels, in the order of KEYPOINTS."""
    ys, xs = (each + 0.5 for each in np.nonzero(scene.owner == index + 1))
    top, bottom = ys.min(), ys.max()
    return np.array(
        [[xs.mean(), ys.mean()], [xs[ys == top].mean(), top], [xs[ys == bottom].mean(), bottom]], np.float64
    )


def label_lines(scene: Scene, task: str) -> str:
    """The scene's truth as YOLO label text of this task, places as shares of the picture."""
    height, width = scene.image.shape[:2]
    lines = []
    for index, thing in enumerate(scene.objects):
        numbers = [float(SHAPES.index(thing.shape))]
        if task == "pose":
            x1, y1, x2, y2 = thing.box
            numbers += [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
            for x, y in keypoints(scene, index):
                numbers += [x / width, y / height, 2.0]
        else:
            points = outline(scene, index) if task == "segment" else corners(scene, index)
            numbers += (points / [width, height]).ravel().tolist()
        lines.append(" ".join(f"{number:.6g}" for number in numbers) + "\n")
    return "".join(lines)


def _write_scene(folder: Path, task: str, split: str, seed: int) -> None:
    scene = draw_scene(seed, scene_settings(task))
    if task != "classify":
        (folder / "images" / split / f"{seed}.jpg").write_bytes(scene.jpeg())
        (folder / "labels" / split / f"{seed}.txt").write_text(label_lines(scene, task))
    elif scene.objects:  # now and then no colour stands out
        shape = scene.objects[0].shape
        (folder / split / f"{SHAPES.index(shape)}-{shape}" / f"{seed}.jpg").write_bytes(scene.jpeg())


def write_split(folder: Path, task: str, split: str, seeds: Iterable[int], num_processes: int) -> None:
    """Draw the scenes of these seeds below `folder`. Raises OSError where it cannot be written."""
    places: Sequence[str] = (
        [f"{split}/{number}-{shape}" for number, shape in enumerate(SHAPES)]
        if task == "classify"
        else [f"images/{split}", f"labels/{split}"]
    )
    for place in places:
        (folder / place).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(num_processes) as workers:
        list(workers.map(partial(_write_scene, folder, task, split), seeds, chunksize=32))


def write_index(folder: Path, task: str) -> Path:
    """What the library is to be given as `data`: a file that names splits and classes, or the folder to classify."""
    if task == "classify":
        return folder
    described = {
        "path": str(folder.resolve()),
        **{split: f"images/{split}" for split in ("train", "val", "test")},
        "names": dict(enumerate(SHAPES)),
    }
    if task == "pose":
        described |= {"kpt_shape": [len(KEYPOINTS), 3], "flip_idx": list(range(len(KEYPOINTS)))}
    index = folder / "shapes.yaml"
    index.write_text(json.dumps(described))  # JSON is YAML
    return index
