"""YOLO as the pool's model, whatever its task: weights in, JSON out. In a worker; torch is imported inside."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.answers import Answers, Progress, Row, WarmUpRow
from models.detections import DEFAULT_MAX_DETECTIONS
from models.errors import InvalidParameterError
from models.heads import PostProcessor, post_processor
from models.runtimes.network import Opened, Place, Source, open_network
from models.runtimes.runtime import Runtime
from models.runtimes.wish import Wish
from models.spec import Spec
from models.weights import resolve


class YoloModel:
    """A loaded network. `infer` answers up to `max_batch_size` rows of uint8 RGB pixels, resized as the spec says."""

    def __init__(self, spec: Spec, runtime: Runtime, post_processor: PostProcessor) -> None:
        self._spec = spec
        self._runtime = runtime
        self._post_processor = post_processor

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one row's pixels: (height, width, 3)."""
        return self._spec.slot_shape

    @property
    def spec(self) -> dict[str, Any]:
        """The model's spec as JSON types."""
        return self._spec.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answer `rows` at once. Bad parameters fail their row alone, with InvalidParameterError."""
        started = time.monotonic()
        options = [self._options(row.params) for row in rows]
        good = [index for index, each in enumerate(options) if not isinstance(each, InvalidParameterError)]
        fragments: list[bytes | Exception] = [
            each if isinstance(each, InvalidParameterError) else b"" for each in options
        ]
        if not good:
            return Answers(fragments)
        raw = self._runtime.launch([rows[index].pixels for index in good]).result()
        forwarded = time.monotonic()
        found = self._post_processor.fragments(raw, [options[index] for index in good])
        for index, fragment in zip(good, found, strict=True):
            fragments[index] = fragment
        return Answers(fragments, {"infer": forwarded - started, "post": time.monotonic() - forwarded})

    def _options(self, params: Mapping[str, Any]) -> Any:
        """What the task makes of `params`, or an InvalidParameterError."""
        try:
            return self._post_processor.read_options(params)
        except InvalidParameterError as error:
            return error


def load(config: Mapping[str, Any], device: str, progress: Progress) -> YoloModel:
    """Load the weights that `config` names on `device` ("cpu", "cuda:0") and run them once.

    Keys besides those of models.weights.WeightsSource: `imgsz` (pixels, None for the checkpoint's),
    `max_batch_size` (default 1), `num_threads` (on the CPU), `task` (what the weights must be for), `end2end` (which of
    two heads), None for the library's choice, `max_detections` (the most that an end-to-end head gives), `runtime` and
    `precision` (see models.runtimes.wish; without them PyTorch in fp32), `converted_dir` (where converted networks are
    kept).
    Raises WeightsUnavailableError, WeightsInvalidError, WeightsMismatchError, UnsupportedModelError,
    UnsafeLoadingError, RuntimeUnavailableError.
    """
    resolved = resolve(config, progress)
    progress({"stage": "load"})
    max_detections = max(
        int(config.get("max_detections") or 0), DEFAULT_MAX_DETECTIONS
    )  # as the library's predictor
    source = Source(
        resolved.path,
        resolved.sha256,
        config.get("imgsz"),
        config.get("end2end"),
        config.get("task"),
        max_detections,
    )
    max_batch_size = int(config.get("max_batch_size") or 1)
    place = Place(device, max_batch_size, config.get("num_threads"))
    opened = open_network(source, Wish.from_config(config), place, progress)
    spec = _spec(config["model_id"], opened, device, resolved.sha256)
    model = YoloModel(spec, opened.runtime, post_processor(opened.traits))
    progress({"stage": "warm_up"})
    is_alike = opened.runtime.name == "openvino"  # one image after another, whatever the size of the batch
    _warm_up(model, 1 if is_alike else max_batch_size)
    return model


def _spec(model_id: str, opened: Opened, device: str, sha256: str) -> Spec:
    traits = opened.traits
    return Spec(
        model_id=model_id,
        family="yolo",
        task=traits.task,
        resize=traits.resize,
        input_height=traits.height,
        input_width=traits.width,
        labels=traits.labels,
        device=device,
        runtime=opened.runtime.name,
        precision=opened.runtime.precision,
        weights_sha256=sha256,
        runtime_reason=opened.reason,
    )


def _warm_up(model: YoloModel, max_batch_size: int) -> None:
    """The first batch of a size costs allocations and kernel choices; pay for smallest and largest now."""
    height, width, _ = model.slot_shape
    noise = np.random.default_rng(0).integers(0, 256, model.slot_shape, dtype=np.uint8)
    row = WarmUpRow(noise, {"width": width, "height": height, "confidence": 0.0, "max_detections": 1})
    for num_rows in sorted({1, max_batch_size}):
        model.infer([row] * num_rows)
