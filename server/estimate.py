"""How much memory a worker will take, guessed before it has ever run; afterwards its measure is remembered.

Measured with PyTorch on the CPU, one thread, batches of 8, at the peak and beyond what workers share with their
forkserver, in MiB: yolov8n 331, yolo26n 374, yolov8m 745, yolov8x 1435, yolov8n-seg 531, yolov8x-seg 1428,
yolov8n-cls 268, rtdetr-l 938. This guesses 392, 380, 805, 1575, 595, 1832, 274, 938: rather too high than a kill.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.catalogue import CatalogueEntry
from models.spec import Family, Task

MIB = 2**20
TORCH_BYTES = 420 * MIB
"""PyTorch and a family's library: of a forkserver that imports them, or of a worker that has to convert its network."""
LIGHT_FORKSERVER_BYTES = 100 * MIB
WORKER_BYTES = 250 * MIB
CUDA_WORKER_BYTES = 2048 * MIB
"""In the memory of the host: what CUDA and its libraries keep there."""
WEIGHTS_COPIES = 4
"""Files in half precision become twice as large, and there are two copies while a file is read."""
DEFAULT_WEIGHTS_BYTES: Mapping[Family, int] = {"yolo": 190 * MIB, "blip": 1600 * MIB}
"""Where the file is not here yet: the largest of the family."""
RELEASED_BYTES: Mapping[str, int] = {
    letter: size * MIB
    for letter, size in zip("tnsbmclex", (6, 8, 24, 42, 54, 56, 104, 120, 190), strict=True)
}
"""The same where the name tells the size (``yolov8n-seg``): the largest release of that letter."""
_SIZE_LETTER = re.compile(r"(?:yolov?\d+|rtdetr-)([tnsbmclex])u?(?:-\w+)?")
DEFAULT_SIDES: Mapping[Task, int] = {"classify": 224, "vqa": 384, "caption": 384}
_MEASURED_PIXELS = 8 * 640 * 640


def weights_size(path: Path | None) -> int | None:
    """Bytes of a weights file, or of the safetensors in a folder; None where there is none."""
    if path is None:
        return None
    try:
        files = list(path.glob("*.safetensors")) if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files) or None
    except OSError:
        return None


def forkserver_size(preload: Sequence[str]) -> int:
    """Bytes of the libraries that workers share, where `preload` is imported before they are forked."""
    return TORCH_BYTES + 30 * MIB if "torch" in preload else LIGHT_FORKSERVER_BYTES


def conversion_size(preload: Sequence[str]) -> int:
    """Bytes of libraries in the process that converts a network for the first time."""
    return 0 if "torch" in preload else TORCH_BYTES


def input_side(entry: CatalogueEntry) -> int:
    """Pixels of the square input, where nothing better is known."""
    usual = DEFAULT_SIDES["vqa"] if entry.family == "blip" else 640
    return entry.imgsz or (DEFAULT_SIDES.get(entry.task, usual) if entry.task else usual)


def worker_size(entry: CatalogueEntry, weights: int | None, max_batch_size: int, device: str) -> int:
    """Bytes that one worker takes at its peak, without what it shares; `weights` is the file's size."""
    base = CUDA_WORKER_BYTES if device.startswith("cuda") else WORKER_BYTES
    file_size = _expected_file_size(entry) if weights is None else weights
    if entry.family == "blip":  # read by mapping the file, in the precision that it has
        each = min(
            64 * MIB, 4 * MIB + file_size // 4
        )  # what a picture takes; small networks have small inputs
        return base + 2 * file_size + each * max_batch_size
    activations = 80 * MIB + 11 * file_size // 2 + (200 * MIB if entry.task == "segment" else 0)
    scale = max_batch_size * input_side(entry) ** 2 / _MEASURED_PIXELS
    return base + WEIGHTS_COPIES * file_size + int(activations * scale)


def _expected_file_size(entry: CatalogueEntry) -> int:
    found = _SIZE_LETTER.fullmatch(entry.model_id) if entry.source == "ultralytics" else None
    return RELEASED_BYTES[found[1]] if found else DEFAULT_WEIGHTS_BYTES[entry.family]
