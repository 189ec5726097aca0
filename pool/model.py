"""What a worker needs of a model: the only thing the pool knows about one.

Runs in a worker process. A model is made by a *factory*, named by import string and called once per process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Progress = Callable[[Mapping[str, Any]], None]
"""Called by a factory while it loads, with a small JSON-able dictionary, for instance
``{"stage": "download", "done_bytes": 1, "total_bytes": 2}``; the latest one is shown to operators."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as a model sees it: the slot's pixels (uint8, the model's `slot_shape`, read-only unless the pool's
    `Limits.writes_slots`, valid only until `infer` returns or a launched batch's `result` does) and the caller's
    JSON-able parameters."""

    pixels: Pixels
    params: Mapping[str, Any]


@dataclass(slots=True)
class Answers:
    """What `infer` and `Running.result` give back: one JSON object (as bytes) or one exception per row, in order.

    `timings` are stage durations of the whole batch in float seconds, for instance ``{"infer": .., "post": ..}``.
    """

    fragments: Sequence[bytes | Exception]
    timings: Mapping[str, float] = field(default_factory=dict)


class Running(Protocol):
    """A batch that a model has begun. What goes wrong with it may be raised by either call; it is then over."""

    def wait(self) -> None:
        """Return when the device is done with it. Called from another thread than everything else, which may launch
        meanwhile; batches are waited for one at a time, in their order."""

    def result(self) -> Answers:
        """The answers, after `wait`: what of the work is left for the CPU is done here."""


class Model(Protocol):
    """A loaded model. An exception raised by `infer` makes the worker run the rows one by one; an exception
    with a string attribute `code` passes that word to the caller, any other is ``internal``. With the code
    ``out_of_memory`` the rows are tried again in halves, once the model has freed what it can.

    Some attributes may be missing. `canary`: parameters of a row that any pixels answer alike every time, by which a
    worker is examined before it serves and after it raised. `check_device()`: raises, or never returns, if the device
    is broken; asked after a batch raised anything but ``out_of_memory``, and the worker ends if so.
    `max_launched`: how many batches may be begun before the first of them is collected. Where it is above 1 the
    worker calls `launch(rows) -> Running` instead of `infer`, so that the device has the next batch while the answers
    of this one are made; `infer` is left for what failed. `attach(memory)`: where it is there and not None it is
    told the slots' memory, a flat uint8 array in which the pixels of every row lie, before the first batch; the
    memory can then be written to, which is for page-locking only. `best_batch_size`: more rows at once gain nothing.
    `is_alone`: set before every batch; true means that nothing else runs or waits in the pool, so that this batch may
    use the cores of all replicas.
    """

    @property
    def slot_shape(self) -> tuple[int, ...]:
        """Shape of the uint8 array a slot holds."""

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the caller should know of the model: JSON types only, opaque to the pool."""

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Answer all rows at once. All rows have the same batch key."""


Factory = Callable[[Mapping[str, Any], str, Progress], Model]
"""``factory(config, device, progress) -> Model``: config is JSON-able, device a torch device string
(``cpu`` or ``cuda:0``; pinning is already done). It returns when the model is warm. An exception with a
string attribute `code` names the reason of a failed load; with ``permanent = True`` it is not tried again."""
