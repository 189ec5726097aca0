"""BLIP as the library itself runs it, and rows to ask the engine's own with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from models.blip import BlipModel
from models.catalogue import operator_entry
from models.runtimes.blip_runtime import Floats
from tests.models.blip_folder import IMAGE_SIZE
from tests.models.networks import Image, PlainRow, photo, resized


def config(folder: Path, **more: Any) -> dict[str, Any]:
    entry = operator_entry("tiny", folder, family="blip")
    return {**entry.to_config(), "max_batch_size": 4, "num_threads": 1, **more}


RUNTIMES = ["torch", "openvino"]


def runtime_config(runtime: str, converted: Path) -> dict[str, Any]:
    """What `config` is given besides, for a runtime on the CPU in float32."""
    return {"runtime": runtime, "precision": "fp32", "converted_dir": str(converted)}


class Library:
    """transformers as its documentation says to use it: one image, one text or none."""

    def __init__(self, folder: Path, architecture: str = "BlipForQuestionAnswering") -> None:
        import transformers

        self.processor: Any = transformers.BlipProcessor.from_pretrained(folder)
        network: Any = getattr(transformers, architecture).from_pretrained(folder)
        self.network = network.eval()

    def __call__(self, image: Image, prompt: str | None, **options: int) -> str:
        texts = {} if prompt is None else {"text": prompt}
        inputs = self.processor(images=image, return_tensors="pt", **texts)
        tokens = self.network.generate(**inputs, do_sample=False, **options)
        answer: str = self.processor.decode(tokens[0], skip_special_tokens=True)
        return answer


def pictures(size: int = IMAGE_SIZE) -> list[Image]:
    named = [photo("bus.jpg"), photo("zidane.jpg")]
    parts = [named[0][:500], named[1][:, :600], named[0][500:], named[1][:, 600:]]
    return [resized(part, size, size) for part in parts]


def row(image: Image, prompt: str | None = None, max_new_tokens: int = 8, **params: Any) -> PlainRow:
    pixels = image.copy()
    pixels.flags.writeable = False  # as slots are in a worker
    given = {"width": 100, "height": 80, "max_new_tokens": max_new_tokens, **params}
    return PlainRow(pixels, given if prompt is None else {**given, "prompt": prompt})


def replies(model: BlipModel, rows: list[PlainRow]) -> list[dict[str, Any]]:
    fragments = model.infer(rows).fragments
    assert all(isinstance(fragment, bytes) for fragment in fragments)
    return [orjson.loads(fragment) for fragment in fragments]  # type: ignore[arg-type]


def answers(model: BlipModel, rows: list[PlainRow]) -> list[Mapping[str, Any]]:
    """Without counts of tokens and what is said of the cache: no row has a key, so nothing may come from there."""
    found = replies(model, rows)
    assert all(each.pop("vision_cached") is False for each in found)
    for each in found:
        del each["tokens"], each["is_cut"]
    return found


class Watch:
    """Of a model's runtime: how many images each pass of its eye took, and the scores of each of its decoder's steps."""

    def __init__(self, model: BlipModel) -> None:
        self.sizes: list[int] = []
        self.scores: list[Floats] = []
        runtime: Any = model._eye._runtime
        self._see, self._step = runtime.see, runtime.step
        runtime.see, runtime.step = self._note_see, self._note_step

    def _note_see(self, pixels: Sequence[Image]) -> Any:
        self.sizes.append(len(pixels))
        return self._see(pixels)

    def _note_step(self, *given: Any) -> Any:
        scores, past = self._step(*given)
        self.scores.append(scores)
        return scores, past
