"""Which runtime and precision `auto` takes on this CPU: the fastest of those that keep the accuracy."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.accuracy import MAX_LOSS, loss
from models.answers import Pixels
from models.runtimes.agreement import CLOSE, compare
from models.runtimes.pictures import answers, sample_pictures
from models.runtimes.place import Place
from models.runtimes.runtime import Runtime
from models.runtimes.wish import PUBLISHED, TORCH, Pair, Wish
from models.traits import Traits

MEASURE_SECONDS = 0.6
"""For each candidate, at least MIN_RUNS images."""
MIN_RUNS = 3
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Choice:
    """`milliseconds` are each measured candidate's for one image, by its name ("openvino fp32")."""

    runtime: str
    precision: str
    reason: str
    milliseconds: Mapping[str, float]
    layouts: Mapping[str, float] = field(default_factory=dict)
    """As `measure_layouts` gives them."""

    @property
    def pair(self) -> Pair:
        """Runtime and precision."""
        return self.runtime, self.precision

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types."""
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "reason": self.reason,
            "milliseconds": dict(self.milliseconds),
            "layouts": dict(self.layouts),
        }

    @classmethod
    def from_json(cls, fields: Any) -> Choice:
        """Read what `to_json` wrote. Raises TypeError or ValueError for anything else."""
        choice = cls(**fields)
        if not all(isinstance(word, str) for word in (*choice.pair, choice.reason)):
            raise TypeError("a choice is of words")
        return choice


def machine(wish: Wish, place: Place) -> str:
    """Everything that a choice depends on besides the network, as text. OpenVINO is not asked: that starts threads."""
    lines = (line.partition(":") for line in CPUINFO.read_text().splitlines())
    processor = {name.strip(): said.split() for name, _, said in lines}
    return json.dumps(
        {
            "processor": [processor.get(name) for name in ("vendor_id", "model name", "flags", "Features")],
            "num_threads": place.num_threads,
            "num_cores": place.num_cores,
            "runtime": wish.runtime,
            "precision": wish.precision,
            "losses": [loss("shapes-detect", *pair) for pair in PUBLISHED],
        }
    )


def gated(candidates: Sequence[Pair]) -> tuple[list[Pair], list[str]]:
    """Those whose published loss on the shapes set is small enough, and why the others are not."""
    kept, reasons = [], []
    for pair in candidates:
        points = 0.0 if pair == TORCH else loss("shapes-detect", *pair)
        if points is not None and points <= MAX_LOSS:
            kept.append(pair)
        else:
            said = "was not measured" if points is None else f"loses {points:.2f} points"
            reasons.append(f"{' '.join(pair)} {said}")
    return kept, reasons


def choose(
    runtimes: Mapping[Pair, Runtime], traits: Traits, max_batch_size: int, reasons: Sequence[str]
) -> Choice:
    """The fastest of `runtimes` whose answers to sample pictures agree with those of fp32, where that is among them;
    `reasons` are why others are not."""
    pictures = sample_pictures(traits.input_shape)
    said, left = list(reasons), dict(runtimes)
    coarse = [pair for pair in runtimes if pair[1] != "fp32"]
    exact = next((runtime for pair, runtime in runtimes.items() if pair[1] == "fp32"), None)
    reference = answers(exact, pictures, max_batch_size) if coarse and exact is not None else None
    for pair in coarse:
        if reference is None:  # asked for by name, so it is taken as it is
            break
        found = answers(runtimes[pair], pictures, max_batch_size)
        broken = compare(reference, found, traits).broken(CLOSE)
        if broken:
            del left[pair]
            said.append(f"{' '.join(pair)} differs from fp32 on sample pictures ({broken})")
    times = {pair: 1000.0 * seconds_per_image(runtime, pictures[0]) for pair, runtime in left.items()}
    ranked = sorted(times, key=lambda pair: times[pair])
    milliseconds = {" ".join(pair): round(times[pair], 2) for pair in ranked}
    named = ", ".join(f"{name} {value} ms an image" for name, value in milliseconds.items())
    return Choice(*ranked[0], "; ".join([f"fastest on this machine: {named}", *said]), milliseconds)


def seconds_per_image(runtime: Runtime, picture: Pixels) -> float:
    """The least of a few runs: other work on the machine only ever makes them longer."""
    runtime.launch([picture]).result()
    runs: list[float] = []
    started = time.perf_counter()
    while len(runs) < MIN_RUNS or time.perf_counter() - started < MEASURE_SECONDS:
        begun = time.perf_counter()
        runtime.launch([picture]).result()
        runs.append(time.perf_counter() - begun)
    return min(runs)
