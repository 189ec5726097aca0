"""Pictures that networks are compared on: the demo's sample scenes, and noise. OpenCV is imported inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.answers import Pixels
from models.runtimes.runtime import RawOutput, Runtime

SAMPLES = Path(__file__).parent.parent / "demo" / "samples"
NUM_SCENES = 3
_GREY = 114


def sample_pictures(shape: tuple[int, int]) -> list[Pixels]:
    """Scenes and one picture of noise, uint8 RGB of (height, width, 3), the same every time."""
    height, width = shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return [*(_scene(path, height, width) for path in sorted(SAMPLES.glob("*.jpg"))[:NUM_SCENES]), noise]


def _scene(path: Path, height: int, width: int) -> Pixels:
    """As large as it fits, on grey."""
    import cv2

    drawn = np.asarray(cv2.imread(str(path)), dtype=np.uint8)[..., ::-1]
    scale = min(height / drawn.shape[0], width / drawn.shape[1])
    size = (max(1, int(drawn.shape[1] * scale)), max(1, int(drawn.shape[0] * scale)))
    fitted = np.asarray(cv2.resize(np.ascontiguousarray(drawn), size), dtype=np.uint8)
    picture = np.full((height, width, 3), _GREY, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    picture[top : top + size[1], left : left + size[0]] = fitted
    return picture


def answers(runtime: Runtime, pictures: Sequence[Pixels], max_batch_size: int) -> RawOutput:
    """The raw output for all `pictures`, in batches as large as they may be, copied. On the CPU."""
    batches = [pictures[i : i + max_batch_size] for i in range(0, len(pictures), max_batch_size)]
    raws = []
    for batch in batches:
        raw = runtime.launch(batch).result()
        raws.append([np.array(part) for part in (raw if isinstance(raw, tuple) else (raw,))])
    joined = [np.concatenate(parts) for parts in zip(*raws, strict=True)]
    return joined[0] if len(joined) == 1 else (joined[0], joined[1])
