"""What every peer serves, whichever server is around it: pictures in, JSON out.

It runs in the peer's environment, so it imports nothing at the top but the standard library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETTINGS = "PEER_SETTINGS"
Answer = Callable[[Sequence[bytes]], list[bytes]]
"""JPEGs to JSON documents, as many."""


@dataclass(frozen=True)
class PeerSettings:
    """`variant` is ``predict`` (the library's), ``adapter`` (the engine's own) or ``noop``; `workers` processes with
    `threads` each; `told` is the folder in which each that is ready says what executes its network."""

    variant: str
    weights: str
    port: int
    told: str
    workers: int
    threads: int
    batch_size: int
    options: Mapping[str, Any] = field(default_factory=dict)


def read_settings() -> PeerSettings:
    """What the bench wants of this peer."""
    return PeerSettings(**json.loads(os.environ[SETTINGS]))


def make_answer(settings: PeerSettings) -> Answer:
    """Load the network and run it once at the smallest and the largest batch."""
    answer, runtime = _VARIANTS[settings.variant](settings)
    if settings.variant != "noop":
        from bench.pictures import distinct_jpegs

        for size in sorted({1, settings.batch_size}):
            answer(distinct_jpegs(size))
    partial = Path(settings.told) / f"{os.getpid()}.partial"
    partial.write_text(json.dumps(runtime))
    partial.rename(partial.with_suffix(".json"))
    return answer


def _predict(settings: PeerSettings) -> tuple[Answer, dict[str, str]]:
    """Ultralytics as its documentation shows it: its own decoding by OpenCV, `predict`, its own JSON."""
    import cv2
    import numpy as np
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(settings.threads)
    yolo = YOLO(settings.weights)

    def answer(jpegs: Sequence[bytes]) -> list[bytes]:
        pictures = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
        results = yolo.predict(pictures, verbose=False, device="cpu")
        return [result.to_json().encode() for result in results]

    return answer, {"runtime": "torch", "precision": "fp32", "input": "the library's default (rect=True)"}


def _adapter(settings: PeerSettings) -> tuple[Answer, dict[str, str]]:
    from bench.adapter import Adapter

    adapter = Adapter(settings.weights, settings.threads, settings.batch_size, settings.options)
    return adapter.answer, {**adapter.runtime, "input": "letterbox to the full square"}


def _noop(settings: PeerSettings) -> tuple[Answer, dict[str, str]]:
    return lambda bodies: [b'{"predictions":[]}' for _ in bodies], {"runtime": "none"}


_VARIANTS: Mapping[str, Callable[[PeerSettings], tuple[Answer, dict[str, str]]]] = {
    "predict": _predict,
    "adapter": _adapter,
    "noop": _noop,
}
