"""BLIP of full size against the library's own `generate`: distinct images, exactly as many new tokens on both sides.

    python -m bench.weights FOLDER --name blip-vqa-base
    python -m bench.blip FOLDER/blip-vqa-base --converted FOLDER/converted --threads 2

Both run in this process, in turns, on the same cores; the least time of each batch size counts, and the best batch
size of each side. Besides what a clock on the wall shows stands what the process computed, which says more on a machine
that others share. De-duplication, response cache and embedding cache are off: there is none in this process. The
last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.record import record
from models.answers import Pixels, WarmUpRow
from models.blip import BlipModel, load

QUESTION = "what is in the picture?"


def distinct(num_images: int, side: int, seed: int) -> list[Pixels]:
    """Images of (side, side, 3) uint8, no two alike."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(num_images)]


def never_ending(model: BlipModel) -> None:
    """Texts end where they must, not where the network likes: random weights end them early."""
    writer: Any = model._writer
    traits = writer._traits
    writer._traits = type(traits)(**{**traits.to_json(), "last": -1})


class Library:
    """The library's `generate`, float32, as its documentation says to use it."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(num_threads)
        read: Any = transformers.BlipForQuestionAnswering.from_pretrained
        self._network = read(folder).eval()
        self._processor: Any = transformers.BlipProcessor.from_pretrained(folder)

    def __call__(self, images: Sequence[Pixels], num_tokens: int) -> None:
        """Texts of exactly `num_tokens` about `images`; the images have their size already."""
        import torch

        inputs = self._processor(
            images=list(images), text=[QUESTION] * len(images), return_tensors="pt", do_resize=False
        )
        with torch.inference_mode():
            tokens = self._network.generate(
                **inputs, do_sample=False, max_new_tokens=num_tokens, min_new_tokens=num_tokens
            )
        if tokens.shape[1] != 1 + num_tokens:
            raise RuntimeError(f"{tokens.shape[1] - 1} tokens were written, not {num_tokens}")


@dataclass
class Timed:
    """Least seconds for one image, by batch size: on the wall, and computed by all threads."""

    wall: dict[int, float]
    cpu: dict[int, float]

    @classmethod
    def of(cls, batches: Sequence[int]) -> Timed:
        """Nothing measured yet."""
        return cls(*({batch: float("inf") for batch in batches} for _ in range(2)))

    def time(self, batch: int, run: Callable[[], None]) -> None:
        """Run once more."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        self.wall[batch] = min(self.wall[batch], (time.perf_counter() - wall) / batch)
        self.cpu[batch] = min(self.cpu[batch], (time.process_time() - cpu) / batch)

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        best = min(self.wall, key=lambda batch: self.wall[batch])
        return {
            "best_batch": best,
            "images_per_second": 1 / self.wall[best],
            "seconds": self.wall,
            "cpu": self.cpu,
        }


class Stages:
    """Seconds of our own stages, by watching a runtime's three calls."""

    def __init__(self, runtime: Any) -> None:
        self.seconds = dict.fromkeys(("see", "read", "step"), 0.0)
        for name in self.seconds:
            setattr(runtime, name, self._watched(name, getattr(runtime, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any) -> Any:
            started = time.process_time()
            try:
                return call(*given)
            finally:
                self.seconds[name] += time.process_time() - started

        return watched


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides in turns."""
    config = {
        "model_id": "bench",
        "source": "file",
        "weights": str(arguments.folder),
        "max_batch_size": max(arguments.batches),
        "num_threads": arguments.threads,
        "runtime": arguments.runtime,
        "precision": arguments.precision,
        "converted_dir": str(arguments.converted),
    }
    model = load(config, "cpu", lambda step: None)
    never_ending(model)
    library = Library(arguments.folder, arguments.threads)
    runtime: Any = model._eye._runtime
    stages = Stages(runtime)
    ours, theirs = Timed.of(arguments.batches), Timed.of(arguments.batches)
    num_tokens, num_images = arguments.tokens, 0
    for number in range(arguments.rounds):
        for batch in arguments.batches:
            images = distinct(batch, model.slot_shape[0], 1000 * number + batch)

            def ask(images: list[Pixels] = images) -> None:
                params = {"prompt": QUESTION, "max_new_tokens": num_tokens}
                for fragment in model.infer([WarmUpRow(image, params) for image in images]).fragments:
                    if isinstance(fragment, Exception):
                        raise fragment

            ours.time(batch, ask)
            num_images += batch
            theirs.time(batch, lambda images=images: library(images, num_tokens))  # type: ignore[misc]
            seconds = f"{ours.wall[batch]:.2f} s an image, the library {theirs.wall[batch]:.2f} s"
            print(f"round {number + 1}, batch {batch}: {seconds}", file=sys.stderr, flush=True)
    return {
        "runtime": runtime.name,
        "precision": runtime.precision,
        "ours": ours.to_json(),
        "transformers_fp32": theirs.to_json(),
        "ratio": min(theirs.wall.values()) / min(ours.wall.values()),
        "cpu_ratio": min(theirs.cpu.values()) / min(ours.cpu.values()),
        "our_cpu_seconds_per_image": {name: each / num_images for name, each in stages.seconds.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--converted", type=Path, required=True, help="where converted networks are kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    figures = measure(arguments)
    settings = {
        name: getattr(arguments, name)
        for name in ("threads", "batches", "rounds", "tokens", "runtime", "precision")
    }
    print(json.dumps(record("blip", {**settings, "caches": "none"}, figures)))


if __name__ == "__main__":
    main()
