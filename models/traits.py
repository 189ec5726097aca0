"""What an adapter must know of a YOLO network besides its weights: enough to feed it and to read what it says.

Plain data without torch, so that it can be kept beside a converted network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from models.spec import Resize, Task


@dataclass(frozen=True, slots=True)
class Traits:
    """`labels[i]` names class i. `height` and `width` are the input size in pixels, multiples of the stride.

    `end2end` networks answer with final boxes and need no suppression of overlaps. `head` is the name of the last
    layer's class; `keypoint_shape` is (keypoints, values of each), (0, 0) where there are none.
    """

    head: str
    task: Task
    resize: Resize
    labels: tuple[str, ...]
    height: int
    width: int
    end2end: bool
    keypoint_shape: tuple[int, int] = (0, 0)

    @property
    def input_shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types, the inverse of `from_json`."""
        return {**asdict(self), "labels": list(self.labels), "keypoint_shape": list(self.keypoint_shape)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Traits:
        """Read what `to_json` wrote. Raises TypeError for a missing or unknown field."""
        count, num_values = fields["keypoint_shape"]
        return cls(**{**fields, "labels": tuple(fields["labels"]), "keypoint_shape": (count, num_values)})
