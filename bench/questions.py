"""What ten questions about one image cost: asked apart, in one list, and with the image remembered. No server.

    python -m bench.weights FOLDER --name blip-vqa-base
    python -m bench.questions FOLDER/blip-vqa-base --converted FOLDER/converted --threads 2

How many images the vision tower encodes is counted, for ten questions about a new image: in one list, in one batch, one
after another. A later question is held against its text part alone: reading and writing with the embedding at hand. The
ways are measured in turns, and the least time of each counts: what a clock on the wall shows, and what the process
computed, which says more on a machine that others share. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.pictures import bus
from bench.record import record
from models.answers import Pixels, WarmUpRow
from models.blip import BlipModel, load
from models.search import Search
from server.resize import square_bicubic

QUESTIONS = [
    f"{what} {where}?" for what in ("what is", "who is") for where in ("here", "left", "up", "far", "near")
]
MAX_NEW_TOKENS = 5
_SHORT = ("one_question_cached", "its_text_alone")
_REPEATS = 5
"""Of what is short, in each round."""


class Asking:
    """A model and one picture. A key that was never used is an image that was never seen."""

    def __init__(self, model: BlipModel, pixels: Pixels) -> None:
        self._model, self._pixels = model, pixels
        self._new_keys = (f"new {number}" for number in itertools.count())
        self.num_seen = 0
        """Images that the vision tower has encoded."""
        runtime: Any = model._eye._runtime
        self.runtime = {"runtime": runtime.name, "precision": runtime.precision}
        see = runtime.see

        def counted(images: Sequence[Pixels]) -> Any:
            self.num_seen += len(images)
            return see(images)

        runtime.see = counted

    def ask(self, keys: Sequence[str], **asked: Any) -> None:
        """One batch, a row for each of `keys`. Raises what a row's answer is where it is an exception."""
        params = {"max_new_tokens": MAX_NEW_TOKENS, **asked}
        rows = [WarmUpRow(self._pixels, {"image_key": key, **params}) for key in keys]
        for fragment in self._model.infer(rows).fragments:
            if isinstance(fragment, Exception):
                raise fragment

    def new_key(self) -> str:
        """Of an image that was never seen."""
        return next(self._new_keys)

    def apart(self, key: Callable[[], str]) -> None:
        """Ten questions, one after another."""
        for question in QUESTIONS:
            self.ask([key()], prompt=question)

    def text_alone(self) -> Callable[[], object]:
        """Reading the first question and writing its answer, with the embedding at hand."""
        (seen,) = self._model._eye.look([self._pixels], ["known"])
        search = Search(MAX_NEW_TOKENS, 1)
        return lambda: self._model._writer.write([seen.embedding], [QUESTIONS[0]], search)

    def ways(self) -> dict[str, Callable[[], object]]:
        """Name to what is timed."""
        self.ask(["known"], prompt=QUESTIONS[0])
        return {
            "one_question": lambda: self.ask([self.new_key()], prompt=QUESTIONS[0]),
            "one_question_cached": lambda: self.ask(["known"], prompt=QUESTIONS[0]),
            "its_text_alone": self.text_alone(),
            "ten_apart": lambda: self.apart(self.new_key),
            "ten_apart_cached": lambda: self.apart(lambda: "known"),
            "ten_in_a_list": lambda: self.ask([self.new_key()], prompts=QUESTIONS),
            "ten_in_a_list_cached": lambda: self.ask(["known"], prompts=QUESTIONS),
        }

    def passes(self) -> dict[str, int]:
        """Images encoded for ten questions about a new one, by the way they are asked."""
        key, found = self.new_key(), {}
        in_turn = {
            "in_a_list": lambda: self.ask([self.new_key()], prompts=QUESTIONS),
            "in_a_batch": lambda: self.ask([self.new_key()] * len(QUESTIONS), prompt=QUESTIONS[0]),
            "one_after_another": lambda: self.apart(lambda: key),
        }
        for name, way in in_turn.items():
            before = self.num_seen
            way()
            found[name] = self.num_seen - before
        return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Passes counted, and of each way ``wall_seconds`` and ``cpu_seconds`` (of all threads)."""
    config = {
        "model_id": "bench",
        "source": "file",
        "weights": str(arguments.folder),
        "max_batch_size": 8,
        "num_threads": arguments.threads,
        "vision_cache_bytes": 1 << 28,
        "runtime": arguments.runtime,
        "precision": arguments.precision,
        "converted_dir": str(arguments.converted),
    }
    model = load(config, "cpu", lambda step: None)
    pixels = np.zeros(model.slot_shape, np.uint8)
    square_bicubic(np.asarray(Image.open(bus()).convert("RGB")), pixels)
    asking = Asking(model, pixels)
    passes, timed = asking.passes(), asking.ways()
    print(f"images encoded for ten questions: {passes}", file=sys.stderr, flush=True)
    clocks = {"wall_seconds": time.perf_counter, "cpu_seconds": time.process_time}
    least = {name: dict.fromkeys(clocks, float("inf")) for name in timed}
    for number in range(1, arguments.rounds + 1):
        for name, way in timed.items():
            for _ in range(_REPEATS if name in _SHORT else 1):
                started = {clock: now() for clock, now in clocks.items()}
                way()
                for clock, now in clocks.items():
                    least[name][clock] = min(least[name][clock], now() - started[clock])
        shown = {name: round(each["wall_seconds"], 3) for name, each in least.items()}
        print(f"round {number}: {shown}", file=sys.stderr, flush=True)
    cached, text = least["one_question_cached"], least["its_text_alone"]
    return {
        **asking.runtime,
        "num_questions": len(QUESTIONS),
        "passes": passes,
        "ways": least,
        "later_over_text": cached["wall_seconds"] / text["wall_seconds"],
        "later_over_text_cpu": cached["cpu_seconds"] / text["cpu_seconds"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--converted", type=Path, required=True, help="where converted networks are kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    figures = measure(arguments)
    settings = {name: getattr(arguments, name) for name in ("threads", "rounds", "runtime", "precision")}
    print(json.dumps(record("questions", {**settings, "max_new_tokens": MAX_NEW_TOKENS}, figures)))


if __name__ == "__main__":
    main()
