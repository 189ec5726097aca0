"""Reading an Ultralytics `.pt` file without running code from it. In a worker; torch is imported inside.

A `.pt` file is a pickle. The library's safe loading rebuilds only known layer classes (`weights_only=True`
and a list of allowed names); it is switched on by `ULTRALYTICS_SAFE_LOAD` before the library is imported, and
whether it is on is checked here once more before each load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from models.errors import (
    UnsafeLoadingError,
    UnsupportedModelError,
    WeightsInvalidError,
    WeightsMismatchError,
)
from models.spec import Resize, Task
from models.traits import Traits

if TYPE_CHECKING:
    import torch

DEFAULT_IMGSZ = 640
MAX_IMGSZ = 4096
NUM_CHANNELS = 3
TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "Detect": "detect",
        "v10Detect": "detect",
        "RTDETRDecoder": "detect",
        "Segment": "segment",
        "Segment26": "segment",
        "Pose": "pose",
        "Pose26": "pose",
        "OBB": "obb",
        "OBB26": "obb",
        "Classify": "classify",
    }
)
"""Which task a network's last layer is for, by its exact name: the open-vocabulary heads derive from these, but want
texts besides the image. What the file says of itself may be absent, and is then taken for detect."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a `.pt` file holds. `network` is float32 on the CPU, in eval mode and fused."""

    network: torch.nn.Module
    traits: Traits

    def widen(self, max_detections: int) -> None:
        """Let an end-to-end head give so many boxes. It keeps its best of all classes before a row's class filter is
        seen; so does the library's predictor."""
        network: Any = self.network
        network.set_head_attr(max_det=max_detections)


def read_checkpoint(
    path: Path, imgsz: int | None, end2end: bool | None = None, task: str | None = None
) -> Checkpoint:
    """Read `path`; `imgsz` replaces the input size it was trained with and is rounded up to the stride.

    Some networks (YOLOv10, YOLO26) have two heads, see `_choose_head` for `end2end`. `task` is what the operator
    takes the weights for, None if only they know.

    Raises UnsafeLoadingError if the library would run code from the file, WeightsInvalidError if the file is
    not a checkpoint or refers to anything but known layers, UnsupportedModelError if it is a model that
    is not served here, WeightsMismatchError if it is not for `task` or lacks the head that `end2end` asks for.
    """
    _require_safe_loading()
    network, stored = _load(path)
    yaml = getattr(network, "yaml", {})
    if yaml.get("channels", NUM_CHANNELS) != NUM_CHANNELS:
        raise UnsupportedModelError(f"{path.name} takes {yaml['channels']} channels, served is RGB")
    try:
        head = network.model[-1]
        found = _task(head)
        if task is not None and found != task:
            raise WeightsMismatchError(f"{path.name} is for task {found}, the settings say {task}")
        _choose_head(network, path.name, end2end)
        network = network.fuse(verbose=False)
        labels = _labels(network.names)
        num_classes = head.linear.out_features if found == "classify" else head.nc
        if len(labels) != num_classes:
            raise ValueError(f"{len(labels)} labels for {num_classes} classes")
        stride = max(int(network.stride.max()), 32)  # as the library's predictor does
        height, width = _input_size(stored.get("imgsz") or DEFAULT_IMGSZ if imgsz is None else imgsz, stride)
        traits = Traits(
            head=type(head).__name__,
            task=found,
            resize=_resize(network, head, (height, width)),
            labels=labels,
            height=height,
            width=width,
            end2end=bool(getattr(network, "end2end", False)),
            keypoint_shape=_keypoint_shape(head),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WeightsInvalidError(f"{path.name}: {error}") from error
    return Checkpoint(network, traits)


def _require_safe_loading() -> None:
    from ultralytics.nn import tasks

    can_be_safe = getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False)
    if not (can_be_safe and getattr(tasks, "SAFE_LOAD", False)):
        raise UnsafeLoadingError(
            "refusing to unpickle weights: set ULTRALYTICS_SAFE_LOAD=true before this process starts "
            "(needs ultralytics with safe loading and torch 2.6 or newer)"
        )


def _load(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """The network and the arguments it was trained with."""
    from ultralytics.nn import tasks
    from ultralytics.utils.checks import check_yolov5u_filename

    rename: Any = check_yolov5u_filename
    if rename(str(path), verbose=False) != str(path) or "'" in str(path) or str(path).strip() != str(path):
        # The library would look for another name, on the network too.
        raise WeightsInvalidError(f"{path}: rename this file, the library does not open it under this name")
    read: Any = tasks.load_checkpoint
    try:
        network, stored = read(str(path))
        if not isinstance(network, tasks.BaseModel):
            raise TypeError(f"it holds a {type(network).__name__}, not one of the library's networks")
        return network, stored.get("train_args") or {}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # foreign bytes can fail in any way there is
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsInvalidError(f"{path.name} is not a loadable checkpoint: {reason}") from error


def _choose_head(network: Any, name: str, end2end: bool | None) -> None:
    """Before `fuse` drops the other: the head whose overlaps are suppressed, or the end-to-end one.

    None is what the library's `predict` does where nobody says `nms`: it suppresses overlaps (`AutoBackend` is given
    `end2end=self.args.nms is False`), unless the file holds the end-to-end head alone.
    """
    head = network.model[-1]
    has_end2end = getattr(head, "one2one_cv2", None) is not None
    if end2end and not has_end2end:
        raise WeightsMismatchError(f"{name} has no end-to-end head, the settings say end2end = true")
    if has_end2end and head.cv2 is None:
        if end2end is False:
            raise WeightsMismatchError(
                f"{name} has only an end-to-end head, the settings say end2end = false"
            )
    elif has_end2end:
        network.end2end = bool(end2end)


def _task(head: Any) -> Task:
    name = type(head).__name__
    if name not in TASKS:
        raise UnsupportedModelError(f"networks that end in {name} are not served")
    return TASKS[name]


def _resize(network: Any, head: Any, shape: tuple[int, int]) -> Resize:
    """How the library's predictor for this head gets a picture to `shape`, (height, width)."""
    if type(head).__name__ == "RTDETRDecoder":
        return "stretch"
    if type(head).__name__ != "Classify":
        return "letterbox"
    _require_plain_transforms(getattr(network, "transforms", None), shape)
    return "center_crop"


def _require_plain_transforms(stored: Any, shape: tuple[int, int]) -> None:
    """Refuse a classifier that was stored with steps of its own: the front crops and scales to 0..1, no more.

    The library takes the stored steps only if they are for the size that is asked for.
    """
    if stored is None:
        return
    steps = {type(step).__name__: step for step in stored.transforms}
    size = getattr(stored.transforms[0], "size", None)
    if ((size, size) if isinstance(size, int) else tuple(size or ())) != shape:
        return
    is_plain = list(steps) == ["Resize", "CenterCrop", "ToTensor", "Normalize"] and (
        steps["Resize"].interpolation.value == "bilinear"
        and all(float(value) == 0.0 for value in steps["Normalize"].mean)
        and all(float(value) == 1.0 for value in steps["Normalize"].std)
    )
    if not is_plain:
        raise UnsupportedModelError(f"this classifier wants its images prepared by {stored!r}")


def _keypoint_shape(head: Any) -> tuple[int, int]:
    count, num_values = getattr(head, "kpt_shape", (0, 0))
    return int(count), int(num_values)


def _labels(names: Any) -> tuple[str, ...]:
    by_class = dict(names) if isinstance(names, dict) else dict(enumerate(names))
    return tuple(str(by_class[class_id]) for class_id in range(len(by_class)))


def _input_size(imgsz: Any, stride: int) -> tuple[int, int]:
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else [int(side) for side in imgsz]
    if len(sides) != 2 or not all(0 < side <= MAX_IMGSZ for side in sides):
        raise ValueError(f"input size {imgsz!r} is not one or two numbers from 1 to {MAX_IMGSZ}")
    height, width = (-(-side // stride) * stride for side in sides)
    return height, width
