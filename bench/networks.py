"""Real networks with random weights that say something, saved in the real file formats.

Set YOLO_OFFLINE and its like before: nothing here does.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
SIZE = 320
NUM_CLASSES = 80


@cache
def photo(name: str) -> Image:
    """A photograph that comes with the library: uint8 RGB."""
    import cv2
    from ultralytics.utils import ASSETS

    read = cv2.imread(str(ASSETS / name))
    assert read is not None
    return np.ascontiguousarray(read[..., ::-1])


def letterboxed(image: Image, height: int, width: int) -> Image:
    """What the front puts into a slot, made by the library: RGB in, RGB out."""
    from ultralytics.data.augment import LetterBox

    pixels: Image = LetterBox((height, width), auto=False)(image=image)
    pixels.flags.writeable = False  # as slots are in a worker
    return pixels


def save_yolo(path: Path, architecture: str = "yolov8n.yaml", size: int = SIZE, **stored: Any) -> Path:
    """A random network as a checkpoint, for an input of `size` pixels. Its batch norms are calibrated on two
    photographs and its scores spread, so that it finds dozens of boxes of many classes with clearly different
    confidences."""
    import torch

    torch.manual_seed(3)
    network = _network(architecture)
    network.names = {i: f"class {i}" for i in range(NUM_CLASSES)}
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average
    pictures = np.stack([letterboxed(photo(name), size, size) for name in ("bus.jpg", "zidane.jpg")])
    with torch.no_grad():
        for norm in norms:
            norm.train()
        network(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
        _spread(network.model[-1])
    for norm in norms:
        norm.momentum = 0.03
    torch.save({"model": network.eval(), "train_args": {"imgsz": size}, **stored}, path)
    return path


def _network(architecture: str) -> Any:
    from ultralytics.nn import tasks

    kinds = {
        "-seg": ("segment", tasks.SegmentationModel),
        "-pose": ("pose", tasks.PoseModel),
        "-obb": ("obb", tasks.OBBModel),
        "-cls": ("classify", tasks.ClassificationModel),
        "rtdetr": ("detect", tasks.RTDETRDetectionModel),
    }
    suffix = next((each for each in kinds if each in architecture), None)
    task, kind = kinds[suffix] if suffix else ("detect", tasks.DetectionModel)
    network: Any = kind(architecture, nc=NUM_CLASSES, verbose=False).eval()
    network.task = task  # the trainer stores it too
    return network


def _spread(head: Any) -> None:
    """Make the last layers of `head` say something: boxes of different sizes, scores from 0 to 1."""
    import torch

    for name, std in (("cv2", 0.1), ("cv3", 0.12), ("cv4", 0.05), ("cv4_kpts", 0.05)):
        for branch in (*(getattr(head, name, None) or ()), *(getattr(head, f"one2one_{name}", None) or ())):
            layer = branch[-1] if isinstance(branch, torch.nn.Sequential) else branch
            if not isinstance(layer, torch.nn.Conv2d):
                continue  # of yolo26's pose, whose last layers are in cv4_kpts
            torch.nn.init.normal_(layer.weight, std=std)
            if name == "cv3":
                torch.nn.init.constant_(layer.bias, -4.0)
    if hasattr(head, "linear"):
        torch.nn.init.normal_(head.linear.weight, std=0.2)
    for layer in getattr(head, "dec_score_head", ()):
        torch.nn.init.normal_(layer.weight, std=0.12)
