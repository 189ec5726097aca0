"""BLIP as the pool's model: an image and prompts in, answers or captions out. In a worker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from models.answers import Answers, Progress, Row, WarmUpRow
from models.batch_sizes import measured_batch_size
from models.blip_network import BlipNetwork, open_network
from models.errors import InvalidParameterError
from models.prompts import Asked
from models.search import Search
from models.spec import Spec
from models.vision import Eye, Seen
from models.vision_cache import VisionCache
from models.weights import resolve
from models.writers import Answerer, Captioner, Writer, Written


class BlipModel:
    """A loaded BLIP. `infer` answers rows of uint8 RGB pixels, resized to the input bicubically."""

    def __init__(self, spec: Spec, eye: Eye, writer: Writer, max_batch_size: int) -> None:
        self._spec = spec
        self._eye = eye
        self._writer = writer
        self._max_batch_size = max_batch_size
        self.best_batch_size = 0
        """More rows at once gain nothing; 0: not known, or they always do."""

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one row's pixels: (height, width, 3)."""
        return self._spec.slot_shape

    @property
    def spec(self) -> dict[str, Any]:
        """The model's spec as JSON types."""
        return self._spec.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answer `rows` at once. Bad parameters fail their row alone, with InvalidParameterError.

        Raises ValueError if rows differ in `num_beams` or `max_new_tokens`: those must be in the batch key.
        """
        started = time.monotonic()
        read = [self._read(row.params) for row in rows]
        good = [(row, each) for row, each in zip(rows, read, strict=True) if isinstance(each, Asked)]
        if not good:
            return Answers([each for each in read if isinstance(each, InvalidParameterError)])
        texts, seen = self._write(good)
        written = time.monotonic()
        answered = (
            self._fragment(asked, its_texts, image)
            for (_, asked), its_texts, image in zip(good, texts, seen, strict=True)
        )
        fragments = [next(answered) if isinstance(each, Asked) else each for each in read]
        return Answers(fragments, {"infer": written - started, "post": time.monotonic() - written})

    def _read(self, params: Mapping[str, Any]) -> Asked | InvalidParameterError:
        try:
            asked = Asked.from_params(params)
            for prompt in asked.prompts:
                self._writer.check(prompt, asked.max_new_tokens)
        except InvalidParameterError as error:
            return error
        return asked

    def _write(self, good: Sequence[tuple[Row, Asked]]) -> tuple[list[list[Written]], list[Seen]]:
        """The texts of each row, and what was seen in its image."""
        searches = {Search(asked.max_new_tokens, asked.num_beams) for _, asked in good}
        if len(searches) != 1:
            raise ValueError("rows of one batch must agree in max_new_tokens and num_beams")
        search = searches.pop()
        seen = self._eye.look([row.pixels for row, _ in good], [asked.image_key for _, asked in good])
        jobs = [
            (image.embedding, prompt)
            for (_, asked), image in zip(good, seen, strict=True)
            for prompt in asked.prompts
        ]
        texts: list[Written] = []
        while chunk := jobs[len(texts) : len(texts) + self._max_batch_size]:
            images = [image for image, _ in chunk]
            if all(image is images[0] for image in images):
                del images[1:]
            texts += self._writer.write(images, [prompt for _, prompt in chunk], search)
        remaining = iter(texts)
        return [list(islice(remaining, len(asked.prompts))) for _, asked in good], seen

    def _fragment(self, asked: Asked, texts: Sequence[Written], seen: Seen) -> bytes:
        members = [
            self._writer.members(prompt, each.text) for prompt, each in zip(asked.prompts, texts, strict=True)
        ]
        tokens = {
            "prompt": sum(each.num_prompt_tokens for each in texts),
            "written": sum(each.num_tokens for each in texts),
        }
        said = {
            "tokens": tokens,
            "is_cut": any(each.is_cut for each in texts),
            "vision_cached": seen.is_cached,
        }
        if not asked.is_list:
            return orjson.dumps({**members[0], **said})
        name = "answers" if self._writer.task == "vqa" else "captions"
        # a list names every prompt, the blank ones of captions too
        listed = [{"prompt": prompt, **each} for prompt, each in zip(asked.prompts, members, strict=True)]
        return orjson.dumps({name: listed, **said})


def load(config: Mapping[str, Any], device: str, progress: Progress) -> BlipModel:
    """Load the folder of weights that `config` names on `device` ("cpu", "cuda:0") and run it once.

    Keys besides those of models.weights.WeightsSource and models.blip_network.open_network: `max_batch_size` (default
    1), `vision_cache_bytes` (of embeddings that are kept, default 0). Raises WeightsUnavailableError,
    WeightsInvalidError, UnsupportedModelError.
    """
    resolved = resolve(config, progress)
    progress({"stage": "load"})
    network = open_network(config, resolved, device, progress)
    eye = Eye(network.runtime, VisionCache(int(config.get("vision_cache_bytes") or 0)))
    kind = Answerer if network.traits.task == "vqa" else Captioner
    writer = kind(network.runtime, network.tokens, network.traits)
    max_batch_size = int(config.get("max_batch_size") or 1)
    spec = _spec(config["model_id"], network, device, resolved.sha256)
    model = BlipModel(spec, eye, writer, max_batch_size)
    progress({"stage": "warm_up"})
    model.best_batch_size = _warm_up(model, network, max_batch_size)
    return model


def _warm_up(model: BlipModel, network: BlipNetwork, max_batch_size: int) -> int:
    """The first batch of a size costs allocations and kernel choices: pay for that now. Returns the best size, which
    only the first worker of its kind on a machine measures."""
    row = WarmUpRow(np.zeros(model.slot_shape, np.uint8), {"max_new_tokens": 2})

    def seconds(num_rows: int) -> float:
        started = time.perf_counter()
        model.infer([row] * num_rows)
        return time.perf_counter() - started

    known = network.known_batch_size(max_batch_size)
    seconds(1)
    if known is None:
        known = measured_batch_size(seconds, max_batch_size)
        network.remember_batch_size(max_batch_size, known)
    elif known > 1:
        seconds(known)
    return known


def _spec(model_id: str, network: BlipNetwork, device: str, sha256: str) -> Spec:
    side = network.traits.image_size
    return Spec(
        model_id=model_id,
        family="blip",
        task=network.traits.task,
        resize="square_bicubic",
        input_height=side,
        input_width=side,
        labels=(),
        device=device,
        runtime=network.runtime.name,
        precision=network.runtime.precision,
        weights_sha256=sha256,
        runtime_reason=network.reason,
    )
