"""The spec: what is fixed about one loaded model.

Plain data without torch. A worker makes it once its weights are loaded, sends it as JSON with `Ready`, and
the front reads it to know how to resize an image and which request options make sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Family = Literal["yolo", "blip"]
Task = Literal["detect", "segment", "pose", "obb", "classify", "vqa", "caption"]
RuntimeName = Literal["auto", "torch", "openvino", "tensorrt"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Resize = Literal["letterbox", "stretch", "center_crop", "square_bicubic"]
"""How pixels get into the slot.

letterbox       keep the aspect ratio, bilinear, pad centred with grey 114 (Ultralytics `rect=False`)
stretch         bilinear to the input size, aspect ratio not kept (RT-DETR)
center_crop     shortest edge to the input size, then the central square (Ultralytics classify)
square_bicubic  bicubic to the input size, aspect ratio not kept (BLIP's image processor)
"""


@dataclass(frozen=True, slots=True)
class Spec:
    """What a loaded model is: fixed until the weights change.

    `input_height` and `input_width` are pixels of the slot, which is uint8 RGB of shape
    (input_height, input_width, 3). `labels[i]` names class i; empty for BLIP.
    """

    model_id: str
    family: Family
    task: Task
    resize: Resize
    input_height: int
    input_width: int
    labels: tuple[str, ...]
    device: str
    runtime: str
    precision: str
    weights_sha256: str
    runtime_reason: str = ""
    """Why this runtime and precision, where the settings left it to the engine or could not be followed."""
    layouts: Mapping[str, float] = field(default_factory=dict)
    """Images per second of all cores together, by the threads of each replica; empty where it was not measured."""

    @property
    def slot_shape(self) -> tuple[int, int, int]:
        """Shape of one slot, uint8 height x width x RGB."""
        return (self.input_height, self.input_width, 3)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of JSON types, the inverse of `from_json`."""
        return {**asdict(self), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Spec:
        """Read what `to_json` wrote. Raises TypeError for a missing or unknown field."""
        return cls(**{**fields, "labels": tuple(fields["labels"])})
