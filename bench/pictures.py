"""Distinct pictures for benches: no two have the same bytes or the same pixels, all have the same size."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image


def bus() -> Path:
    """`bus.jpg` (810 x 1080) of the installed ultralytics package, found without importing it."""
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("ultralytics is not installed")
    return Path(spec.origin).parent / "assets" / "bus.jpg"


def distinct_jpegs(count: int, source: Path | None = None, quality: int = 87, seed: int = 0) -> list[bytes]:
    """`count` JPEGs of `source` (bus.jpg by default), each with its own patches of noise and brightness."""
    base = np.asarray(Image.open(source or bus()).convert("RGB"))
    random = np.random.default_rng(seed)
    jpegs = []
    for _ in range(count):
        pixels = base.copy()
        for _ in range(4):
            top, left = random.integers(0, base.shape[0] - 48), random.integers(0, base.shape[1] - 48)
            pixels[top : top + 48, left : left + 48] = (
                random.integers(0, 256, (6, 6, 3)).repeat(8, 0).repeat(8, 1)
            )
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        jpegs.append(buffer.getvalue())
    assert len(set(jpegs)) == count
    return jpegs
