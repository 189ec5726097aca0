"""What it costs to draw an answer: for each size and kind the milliseconds of drawing and of encoding, and the memory.

    python -m bench.drawing --repeats 5

In this process, without a server: a photograph-like picture, 12 objects with boxes, labels and masks of 300 corners.
The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pool.model import Pixels
from server.drawing import draw, encode
from server.sketch import PictureKind

SIZES = ((640, 480), (4000, 3000), (6000, 4000))
KINDS: Sequence[PictureKind] = ("JPEG", "PNG")
NUM_OBJECTS = 12


def scene(width: int, height: int) -> Pixels:
    """Smooth, with some grain, as photographs are."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    return (smooth // 2 + random.integers(0, 8, smooth.shape, np.uint8)).astype(np.uint8)


def answer(width: int, height: int) -> dict[str, Any]:
    """Objects of a third of the picture's sides."""
    random = np.random.default_rng(1)
    around = np.linspace(0, 2 * np.pi, 300)
    ring = np.stack([np.cos(around), np.sin(around)], 1) * (width / 6, height / 6)
    predictions = []
    for number in range(NUM_OBJECTS):
        centre = (random.random(2) * 0.6 + 0.2) * (width, height)
        x, y = centre.tolist()
        box = {"x1": x - width / 6, "y1": y - height / 6, "x2": x + width / 6, "y2": y + height / 6}
        each = {"label": "person", "class_id": number, "confidence": 0.9, "box": box}
        predictions.append({**each, "polygon": (ring + centre).tolist()})
    return {"predictions": predictions}


def measure(width: int, height: int, repeats: int) -> dict[str, Any]:
    """Medians in milliseconds, bytes of the files, and what the process grew by."""
    picture, said = scene(width, height), answer(width, height)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures: dict[str, Any] = {"draw_ms": [], **{f"{kind}_ms": [] for kind in KINDS}}
    for _ in range(repeats):
        started = time.perf_counter()
        image = draw(picture, said)
        figures["draw_ms"].append(1000 * (time.perf_counter() - started))
        for kind in KINDS:
            buffer = io.BytesIO()
            started = time.perf_counter()
            encode(image, kind, buffer.write)
            figures[f"{kind}_ms"].append(1000 * (time.perf_counter() - started))
            figures[f"{kind}_bytes"] = [len(buffer.getvalue())]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {name: round(statistics.median(values), 1) for name, values in figures.items()} | {
        "grown_bytes_per_pixel": round(1024 * grown / (width * height), 1)
    }


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description="What it costs to draw an answer.")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    figures = {f"{width}x{height}": measure(width, height, args.repeats) for width, height in SIZES}
    for size, each in figures.items():
        print(size, each)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
