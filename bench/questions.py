"""What ten questions about one image cost: asked apart, in one list, and with the image remembered. No server.

    python -m bench.weights FOLDER --name blip-vqa-base
    python -m bench.questions FOLDER/blip-vqa-base --threads 2

The ways are measured in turns, and the least time of each counts: what a clock on the wall shows, and what the
process computed, which says more on a machine that others share. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.pictures import bus
from bench.record import record
from models.answers import Pixels, WarmUpRow
from models.blip import BlipModel, load
from server.resize import square_bicubic

QUESTIONS = [
    f"{what} {where}?" for what in ("what is", "who is") for where in ("here", "left", "up", "far", "near")
]
MAX_NEW_TOKENS = 5


def ways(model: BlipModel, pixels: Pixels) -> dict[str, Callable[[], None]]:
    """Name to what is timed. A key that was never used is an image that was never seen."""
    num_seen = iter(range(1_000_000))

    def ask(key: str, **asked: Any) -> None:
        params = {"image_key": key, "max_new_tokens": MAX_NEW_TOKENS, **asked}
        (fragment,) = model.infer([WarmUpRow(pixels, params)]).fragments
        if isinstance(fragment, Exception):
            raise fragment

    def apart(keys: Callable[[], str]) -> None:
        for question in QUESTIONS:
            ask(keys(), prompt=question)

    ask("known")
    return {
        "one_question": lambda: ask(f"{next(num_seen)}", prompt=QUESTIONS[0]),
        "one_question_cached": lambda: ask("known", prompt=QUESTIONS[0]),
        "ten_apart": lambda: apart(lambda: f"{next(num_seen)}"),
        "ten_apart_cached": lambda: apart(lambda: "known"),
        "ten_in_a_list": lambda: ask(f"{next(num_seen)}", prompts=QUESTIONS),
        "ten_in_a_list_cached": lambda: ask("known", prompts=QUESTIONS),
    }


def measure(folder: Path, num_threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Of each way ``wall_seconds`` and ``cpu_seconds`` (of all threads)."""
    config = {
        "model_id": "bench",
        "source": "file",
        "weights": str(folder),
        "max_batch_size": 8,
        "num_threads": num_threads,
        "vision_cache_bytes": 1 << 28,
    }
    model = load(config, "cpu", lambda step: None)
    pixels = np.zeros(model.slot_shape, np.uint8)
    square_bicubic(np.asarray(Image.open(bus()).convert("RGB")), pixels)
    timed = ways(model, pixels)
    clocks = {"wall_seconds": time.perf_counter, "cpu_seconds": time.process_time}
    least = {name: dict.fromkeys(clocks, float("inf")) for name in timed}
    for _ in range(rounds):
        for name, way in timed.items():
            started = {clock: now() for clock, now in clocks.items()}
            way()
            for clock, now in clocks.items():
                least[name][clock] = min(least[name][clock], now() - started[clock])
    return least


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures = measure(arguments.folder, arguments.threads, arguments.rounds)
    settings = {"threads": arguments.threads, "rounds": arguments.rounds, "max_new_tokens": MAX_NEW_TOKENS}
    print(json.dumps(record("questions", settings, {"ways": figures})))


if __name__ == "__main__":
    main()
