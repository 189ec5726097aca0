"""From a classification head's probabilities to JSON. Runs in a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from models.candidates import on_host
from models.detections import rounded
from models.errors import InvalidParameterError
from models.runtimes.runtime import Array

DEFAULT_TOP = 5


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """One row's parameters: how many of the likeliest classes."""

    top: int = DEFAULT_TOP

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> ClassifyOptions:
        """Read a row's parameters. Raises InvalidParameterError."""
        try:
            top = int(params.get("top", DEFAULT_TOP))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidParameterError(f"{type(error).__name__}: {error}") from error
        if top < 1:
            raise InvalidParameterError("top must be at least 1")
        return cls(top)


class Classifier:
    """Turns probabilities, which the network's own softmax made, into JSON fragments."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)

    def read_options(self, params: Mapping[str, Any]) -> ClassifyOptions:
        """One row's parameters, checked. Raises InvalidParameterError."""
        return ClassifyOptions.from_params(params)

    def fragments(self, raw: Array, options: Sequence[ClassifyOptions]) -> list[bytes | Exception]:
        """One JSON object per row of `raw`, which is (rows, classes). `top` is sorted by falling probability.

        A row whose probabilities are not finite is a FloatingPointError: there is no answer in it.
        """
        probabilities = on_host(raw)
        class_ids = (-probabilities).argsort(axis=1, kind="stable")[:, : max(each.top for each in options)]
        best = np.take_along_axis(probabilities, class_ids, 1)
        is_finite = np.all(np.isfinite(probabilities), axis=1).tolist()
        rows = zip(rounded(best), class_ids.tolist(), options, is_finite, strict=True)
        return [
            self._encode(confidences, numbers, each.top)
            if has_answer
            else FloatingPointError("the network's probabilities are not finite")
            for confidences, numbers, each, has_answer in rows
        ]

    def _encode(self, confidences: Sequence[float], class_ids: Sequence[int], top: int) -> bytes:
        best = [
            {"label": self._labels[class_id], "class_id": class_id, "confidence": confidence}
            for confidence, class_id in list(zip(confidences, class_ids, strict=True))[:top]
        ]
        return orjson.dumps({"top": best})
