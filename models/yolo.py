"""YOLO as the pool's model, whatever its task: weights in, JSON out. In a worker; torch is imported inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.answers import Answers, Pixels, Progress, Row, WarmUpRow
from models.checkpoint import Checkpoint, read_checkpoint
from models.detections import DEFAULT_MAX_DETECTIONS
from models.errors import InvalidParameterError
from models.heads import PostProcessor, post_processor
from models.runtimes.cuda_device import CudaDevice
from models.runtimes.gpu import Wanted, open_on_gpu
from models.runtimes.runtime import RawOutput, Running, Runtime
from models.runtimes.torch_runtime import TorchRuntime
from models.spec import Spec
from models.traits import Traits
from models.weights import resolve


class YoloModel:
    """A loaded network. `infer` answers up to `max_batch_size` rows of uint8 RGB pixels, resized as the spec says."""

    def __init__(self, spec: Spec, runtime: Runtime, post_processor: PostProcessor) -> None:
        self._spec = spec
        self._runtime = runtime
        self._post_processor = post_processor
        self.max_launched: int = getattr(runtime, "max_launched", 1)
        """How many batches may be begun before the first of them is collected."""
        self.attach: Callable[[Pixels], None] | None = getattr(runtime, "attach", None)
        """Told the slots' memory, where the runtime can copy from it by itself."""

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
        running = self.launch(rows)
        running.wait()
        return running.result()

    def launch(self, rows: Sequence[Row]) -> RunningRows:
        """Begin `rows`; their pixels must stay as they are until there is a result."""
        started = time.monotonic()
        options = [self._options(row.params) for row in rows]
        good = [index for index, each in enumerate(options) if not isinstance(each, InvalidParameterError)]
        running = self._runtime.launch([rows[index].pixels for index in good]) if good else None
        return RunningRows(options, good, running, self._post_processor, started)

    def _options(self, params: Mapping[str, Any]) -> Any:
        """What the task makes of `params`, or an InvalidParameterError."""
        try:
            return self._post_processor.read_options(params)
        except InvalidParameterError as error:
            return error


class RunningRows:
    """Rows that the network works at. `wait` and `result` raise what the runtime raises, `result` also what
    post-processing does."""

    def __init__(
        self,
        options: Sequence[Any],
        good: Sequence[int],
        running: Running | None,
        post_processor: PostProcessor,
        started: float,
    ) -> None:
        """`good` are the rows that run, `options` what each of all rows wants or an InvalidParameterError."""
        self._options = options
        self._good = good
        self._running = running
        self._post_processor = post_processor
        self._started = started
        self._seconds = 0.0
        self._raw: RawOutput | None = None

    def wait(self) -> None:
        """Return when the network is done."""
        if self._running is not None:
            self._raw = self._running.result()
        self._seconds = time.monotonic() - self._started

    def result(self) -> Answers:
        """One JSON object or error per row."""
        fragments: list[bytes | Exception] = [
            each if isinstance(each, InvalidParameterError) else b"" for each in self._options
        ]
        if self._raw is None:
            return Answers(fragments)
        waited = time.monotonic()
        options = [self._options[index] for index in self._good]
        found = self._post_processor.fragments(_tensors(self._raw), options)
        for index, fragment in zip(self._good, found, strict=True):
            fragments[index] = fragment
        return Answers(fragments, {"infer": self._seconds, "post": time.monotonic() - waited})


def _tensors(raw: RawOutput) -> Any:
    """`raw` as the post-processing wants it, on the device where it is; nothing is copied."""
    import torch

    return tuple(map(torch.as_tensor, raw)) if isinstance(raw, tuple) else torch.as_tensor(raw)


def load(config: Mapping[str, Any], device: str, progress: Progress) -> YoloModel:
    """Load the weights that `config` names on `device` ("cpu", "cuda:0") and run them once.

    Keys besides those of models.weights.WeightsSource: `imgsz` (pixels, None for the checkpoint's),
    `max_batch_size` (default 1), `num_threads` (of torch on the CPU), `task` (what the
    weights must be for), `end2end` (which of two heads), None for the library's choice, `max_detections` (the most
    that an end-to-end head gives).
    Raises WeightsUnavailableError, WeightsInvalidError, WeightsMismatchError, UnsupportedModelError,
    UnsafeLoadingError.
    """
    resolved = resolve(config, progress)
    progress({"stage": "load"})
    _set_num_threads(config.get("num_threads"))
    checkpoint = read_checkpoint(
        resolved.path, config.get("imgsz"), config.get("end2end"), config.get("task")
    )
    traits = checkpoint.traits
    if traits.end2end:
        _widen_end2end_head(checkpoint, int(config.get("max_detections") or DEFAULT_MAX_DETECTIONS))
    shape = (*traits.input_shape, 3)
    max_batch_size = int(config.get("max_batch_size") or 1)
    if device == "cpu":
        runtime: Runtime = TorchRuntime(checkpoint.network, shape, max_batch_size)
    else:
        wanted = _wanted(config, traits, resolved.sha256)
        runtime = open_on_gpu(checkpoint.network, shape, max_batch_size, CudaDevice(device), wanted, progress)
    spec = _spec(config["model_id"], traits, runtime, device, resolved.sha256)
    model = YoloModel(spec, runtime, post_processor(traits))
    progress({"stage": "warm_up"})
    _warm_up(model, max_batch_size)
    return model


def _wanted(config: Mapping[str, Any], traits: Traits, sha256: str) -> Wanted:
    folder = config.get("converted_dir")
    return Wanted(
        config.get("runtime") or "auto",
        config.get("precision") or "auto",
        Path(folder).expanduser() if folder else None,
        {"sha256": sha256, "traits": traits.to_json(), "max_detections": config.get("max_detections")},
    )


def _spec(model_id: str, traits: Traits, runtime: Runtime, device: str, sha256: str) -> Spec:
    return Spec(
        model_id=model_id,
        family="yolo",
        task=traits.task,
        resize=traits.resize,
        input_height=traits.height,
        input_width=traits.width,
        labels=traits.labels,
        device=device,
        runtime=runtime.name,
        precision=runtime.precision,
        weights_sha256=sha256,
    )


def _set_num_threads(num_threads: int | None) -> None:
    import torch

    if num_threads:
        torch.set_num_threads(num_threads)


def _widen_end2end_head(checkpoint: Checkpoint, max_detections: int) -> None:
    """An end-to-end head keeps its best boxes of all classes before a row's class filter is seen; so does the
    library's predictor, which never keeps less than 300."""
    network: Any = checkpoint.network
    network.set_head_attr(max_det=max(max_detections, DEFAULT_MAX_DETECTIONS))


def _warm_up(model: YoloModel, max_batch_size: int) -> None:
    """The first batch of a size costs allocations and kernel choices; pay for smallest and largest now."""
    height, width, _ = model.slot_shape
    noise = np.random.default_rng(0).integers(0, 256, model.slot_shape, dtype=np.uint8)
    row = WarmUpRow(noise, {"width": width, "height": height, "confidence": 0.0, "max_detections": 1})
    for num_rows in sorted({1, max_batch_size}):
        model.infer([row] * num_rows)
