"""Which code turns which head's raw output into JSON. Runs in a worker; a new task is a new branch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from models.classes import Classifier
from models.detections import Detector
from models.keypoints import KeypointDetector
from models.masks import Segmenter
from models.oriented import OrientedDetector
from models.queries import QueryDetector
from models.traits import Traits


class PostProcessor(Protocol):
    """What every task has in common. Options are the task's own and only handed back."""

    def read_options(self, params: Mapping[str, Any]) -> Any:
        """One row's parameters, checked. Raises InvalidParameterError."""
        ...

    def fragments(self, raw: Any, options: Sequence[Any]) -> Sequence[bytes | Exception]:
        """One JSON object or error per row of `raw`, which is what the runtime gave for these rows."""
        ...


def post_processor(traits: Traits) -> PostProcessor:
    """The one for this network's head. Raises ValueError for a task that has none."""
    labels, shape, end2end = traits.labels, traits.input_shape, traits.end2end
    if traits.head == "RTDETRDecoder":
        return QueryDetector(labels, shape)
    match traits.task:
        case "detect":
            return Detector(labels, shape, end2end)
        case "segment":
            return Segmenter(labels, shape, end2end)
        case "pose":
            return KeypointDetector(labels, shape, end2end, traits.keypoint_shape)
        case "obb":
            return OrientedDetector(labels, shape, end2end)
        case "classify":
            return Classifier(labels)
    raise ValueError(f"nothing reads the output of {traits.head}")
