"""YOLO as the pool's model, whatever its task: weights in, JSON out. In a worker; torch is imported inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.answers import Answers, Pixels, Progress, Row, WarmUpRow
from models.batch_sizes import batch_sizes, best_batch_size
from models.detections import DEFAULT_MAX_DETECTIONS
from models.errors import InvalidParameterError
from models.heads import PostProcessor, post_processor
from models.runtimes.network import Opened, Source, open_network
from models.runtimes.place import Place
from models.runtimes.runtime import RawOutput, Running, Runtime
from models.runtimes.wish import Wish
from models.spec import Spec
from models.weights import ResolvedWeights, resolve

MAX_WARM_UP_SECONDS = 0.3
"""A batch that takes longer is not run again only to be timed."""


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
        self.best_batch_size = 0
        """More rows at once gain nothing; 0: not known, or they always do."""

    @property
    def runs_one_by_one(self) -> bool:
        """Whether a batch takes as long as its rows one after another."""
        return bool(getattr(self._runtime, "runs_one_by_one", False))

    @property
    def is_alone(self) -> bool:
        """Whether the next batch has the machine to itself, for a runtime that makes use of it."""
        return bool(getattr(self._runtime, "is_alone", False))

    @is_alone.setter
    def is_alone(self, is_alone: bool) -> None:
        if hasattr(self._runtime, "is_alone"):
            self._runtime.is_alone = is_alone

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
        found = self._post_processor.fragments(self._raw, options)
        for index, fragment in zip(self._good, found, strict=True):
            fragments[index] = fragment
        return Answers(fragments, {"infer": self._seconds, "post": time.monotonic() - waited})


def load(config: Mapping[str, Any], device: str, progress: Progress) -> YoloModel:
    """Load the weights that `config` names on `device` ("cpu", "cuda:0") and run them once.

    Keys besides those of models.weights.WeightsSource: `imgsz` (pixels, None for the checkpoint's),
    `max_batch_size` (default 1), `num_threads` (on the CPU), `num_cores` and `all_cores` (see models.runtimes.place),
    `task` (what the weights must be for), `end2end` (which of two heads), None for the library's choice,
    `max_detections` (the most that an end-to-end head gives), `runtime` and `precision` (see models.runtimes.wish;
    without them PyTorch in fp32), `converted_dir` (where converted networks are kept).
    Raises WeightsUnavailableError, WeightsInvalidError, WeightsMismatchError, UnsupportedModelError,
    UnsafeLoadingError, RuntimeUnavailableError.
    """
    resolved = resolve(config, progress)
    progress({"stage": "load"})
    source = source_of(config, resolved)
    max_batch_size = int(config.get("max_batch_size") or 1)
    num_cores, all_cores = config.get("num_cores") or 0, config.get("all_cores") or ()
    place = Place(device, max_batch_size, config.get("num_threads"), num_cores, all_cores)
    opened = open_network(source, Wish.from_config(config), place, progress)
    spec = _spec(config["model_id"], opened, device, resolved.sha256)
    model = YoloModel(spec, opened.runtime, post_processor(opened.traits))
    progress({"stage": "warm_up"})
    model.best_batch_size = _warm_up(model, max_batch_size)
    return model


def source_of(config: Mapping[str, Any], resolved: ResolvedWeights) -> Source:
    """The network that a factory's config means, its weights being `resolved`."""
    max_detections = max(
        int(config.get("max_detections") or 0), DEFAULT_MAX_DETECTIONS
    )  # as the library's predictor
    return Source(
        resolved.path,
        resolved.sha256,
        config.get("imgsz"),
        config.get("end2end"),
        config.get("task"),
        max_detections,
    )


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
        layouts=opened.layouts,
    )


def _warm_up(model: YoloModel, max_batch_size: int) -> int:
    """The first batch of a size costs allocations and kernel choices: pay for that now. Returns the best size."""
    height, width, _ = model.slot_shape
    noise = np.random.default_rng(0).integers(0, 256, model.slot_shape, dtype=np.uint8)
    row = WarmUpRow(noise, {"width": width, "height": height, "confidence": 0.0, "max_detections": 1})
    sizes = batch_sizes(max_batch_size)
    if model.runs_one_by_one:
        seconds = _seconds(model, [row])
        return best_batch_size({size: size * seconds for size in sizes})
    return best_batch_size({size: _seconds(model, [row] * size) for size in sizes})


def _seconds(model: YoloModel, rows: Sequence[Row]) -> float:
    """What `rows` take when they are not the first of their number; of slow ones the first has to do."""
    for _ in range(2):
        started = time.perf_counter()
        model.infer(rows)
        seconds = time.perf_counter() - started
        if seconds > MAX_WARM_UP_SECONDS:
            break
    return seconds
