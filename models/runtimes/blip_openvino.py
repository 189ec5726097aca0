"""BLIP in OpenVINO on the CPU, from networks that were converted before. Runs in a worker; openvino is imported inside.

vision.xml    pixels to an image's patches
question.xml  vqa: a question beside an image, to what the decoder looks at
step.xml      one step of the decoder
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.answers import Pixels
from models.blip_traits import BlipTraits
from models.runtimes.blip_runtime import HIDDEN, Floats, LookedAt, Numbers, Past
from models.runtimes.runtime import Array

VISION, QUESTION, STEP = "vision.xml", "question.xml", "step.xml"


class OpenVinoBlip:
    """The networks in OpenVINO. What is between the calls are NumPy's arrays."""

    name = "openvino"

    def __init__(self, folder: Path, traits: BlipTraits, precision: str, num_threads: int | None) -> None:
        """Read and compile what `write` of blip_conversion.py put into `folder`. `precision` is fp32, bf16 (which
        needs a processor that has it), or int8; `num_threads` None takes all cores. Raises RuntimeError for damaged
        files."""
        import openvino as ov

        core = ov.Core()
        options = _options(precision, num_threads)

        def compiled(name: str) -> Any:
            return core.compile_model(folder / name, "CPU", options).create_infer_request()

        self.precision = precision
        self._vision = compiled(VISION)
        self._question = compiled(QUESTION) if traits.task == "vqa" else None
        self._step = compiled(STEP)
        self._traits = traits

    def see(self, pixels: Sequence[Pixels]) -> list[Array]:
        """As the protocol says."""
        seen = self._vision.infer([np.stack(pixels)], share_inputs=True, share_outputs=True)[0]
        # Copies: the request writes its next batch where this one is.
        return [each.copy() for each in seen]

    def look_at(self, images: Sequence[Array]) -> LookedAt:
        arrays: Any = images
        return (arrays[0][None] if len(images) == 1 else np.stack(arrays),)

    def read(self, ids: Numbers, mask: Floats, images: Sequence[Array]) -> LookedAt:
        assert self._question is not None, "a captioner reads no questions"
        found = self._question.infer([ids, mask, *self.look_at(images)], share_inputs=True)
        return found[0], found[1], (1 - mask)[:, None, None] * np.float32(HIDDEN)

    def step(
        self, ids: Numbers, positions: Numbers, bias: Floats, past: Past | None, looked_at: LookedAt
    ) -> tuple[Floats, Past]:
        traits = self._traits
        if past is None:
            none = np.empty((traits.layers, len(ids), traits.heads, 0, traits.head_width), np.float32)
            past = none, none
        # Outputs are copied: what was kept is an input of the next step, which would be written over while it is read.
        found = self._step.infer([ids, positions, bias, *past, *looked_at], share_inputs=True)
        return found[0], (found[1], found[2])

    def reordered(self, past: Past, rows: Numbers) -> Past:
        keys, values = (np.take(each, rows, axis=1) for each in past)
        return keys, values


def _options(precision: str, num_threads: int | None) -> Mapping[str, Any]:
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        # Cores are given to a worker by the engine, and two models may share them.
        "ENABLE_CPU_PINNING": False,
    }
    return options if num_threads is None else {**options, "INFERENCE_NUM_THREADS": num_threads}
