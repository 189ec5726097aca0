"""Whether converted BLIP networks say what they said in PyTorch. In a worker; torch and openvino inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.answers import Pixels
from models.blip_checkpoint import BlipCheckpoint
from models.decoding import Decoding
from models.faults import is_out_of_memory
from models.runtimes.blip_openvino import OpenVinoBlip
from models.runtimes.blip_runtime import BlipRuntime, Floats
from models.runtimes.blip_torch import TorchBlip
from models.runtimes.conversion import ConversionError
from models.runtimes.pictures import sample_pictures
from models.writers import DEFAULT_PROMPT

PICTURES = slice(None, None, 3)
"""A scene and noise: a large network takes a second for each."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that two outputs may differ: on the mean as a share of the mean magnitude, and anywhere as a share of
    the largest."""

    mean: float
    worst: float


SAME = Bounds(mean=1e-3, worst=1e-2)
"""Of the same arithmetic in another order."""
CLOSE = Bounds(mean=0.3, worst=1.0)
"""Of int8: what its texts lose is measured with the demo's network; this finds what is broken."""


def check(checkpoint: BlipCheckpoint, folder: Path, precision: str, num_threads: int | None) -> None:
    """Run what `write` put into `folder` and the checkpoint on sample pictures and a question.

    Raises ConversionError if the networks do not run, or embeddings or scores of words differ. Files in bfloat16's
    place are those of float32, and checked as such: what that precision loses is measured elsewhere.
    """
    side = checkpoint.traits.image_size
    pictures = sample_pictures((side, side))[PICTURES]
    expected = _outputs(TorchBlip(checkpoint, "cpu"), checkpoint, pictures)
    coarse = precision == "int8"
    try:
        runtime = OpenVinoBlip(folder, checkpoint.traits, "int8" if coarse else "fp32", num_threads)
        found = _outputs(runtime, checkpoint, pictures)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ConversionError(f"it does not run: {error}".splitlines()[0]) from error
    for name, values in expected.items():
        if broken := _broken(values, found[name], CLOSE if coarse else SAME):
            raise ConversionError(f"it answers otherwise than PyTorch: {name} differ, {broken}")


def _outputs(
    runtime: BlipRuntime, checkpoint: BlipCheckpoint, pictures: Sequence[Pixels]
) -> dict[str, Floats]:
    """Embeddings, and scores of the first two words about each picture."""
    traits, rows = checkpoint.traits, len(pictures)
    images = runtime.see(pictures)
    question = checkpoint.tokens.ids(DEFAULT_PROMPT)[: traits.max_tokens]
    if traits.task == "vqa":
        ids = np.array([question] * rows, np.int64)
        looked_at = runtime.read(ids, np.ones(ids.shape, np.float32), images)
        start = [traits.first]
    else:
        looked_at = runtime.look_at(images)
        start = [traits.first, *question[1:-1]][: traits.max_tokens - 1]
    begun = np.array([start] * rows, np.int64)
    decoding = Decoding(runtime, looked_at, np.ones(begun.shape, np.bool_))
    first = decoding.begin(begun)
    second = decoding.go_on(begun[:, -1])
    return {
        "embeddings": np.stack([np.asarray(image) for image in images]),
        "scores": np.stack([first, second]),
    }


def _broken(ours: Floats, theirs: Floats, bounds: Bounds) -> str:
    """What is beyond `bounds`; NaN is. Empty if nothing."""
    magnitudes, apart = np.abs(ours), np.abs(ours - theirs)
    mean = float(apart.mean() / max(float(magnitudes.mean()), 1e-6))
    worst = float(apart.max() / max(float(magnitudes.max()), 1e-6))
    said = [] if mean <= bounds.mean else [f"by {mean:.2g} on the mean > {bounds.mean}"]
    return ", ".join(
        [*said, *([] if worst <= bounds.worst else [f"by {worst:.2g} at most > {bounds.worst}"])]
    )
