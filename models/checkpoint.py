"""Reading an Ultralytics `.pt` file without running code from it. In a worker; torch is imported inside.

A `.pt` file is a pickle. The library's safe loading rebuilds only known layer classes (`weights_only=True`
and a list of allowed names); it is switched on by `ULTRALYTICS_SAFE_LOAD` before the library is imported, and
whether it is on is checked here once more before each load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import UnsafeLoadingError, UnsupportedModelError, WeightsInvalidError

if TYPE_CHECKING:
    import torch

DEFAULT_IMGSZ = 640
MAX_IMGSZ = 4096
NUM_CHANNELS = 3
DETECT_HEADS = ("Detect", "v10Detect")
OTHER_HEADS = {"Segment": "segment", "Pose": "pose", "OBB": "obb", "Classify": "classify"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a `.pt` file holds. `network` is float32 on the CPU, in eval mode and fused.

    `labels[i]` names class i. `height` and `width` are the input size in pixels, multiples of the stride.
    `end2end` networks answer with final boxes and need no suppression of overlaps.
    """

    network: torch.nn.Module
    task: str
    labels: tuple[str, ...]
    height: int
    width: int
    end2end: bool


def read_checkpoint(path: Path, imgsz: int | None) -> Checkpoint:
    """Read `path`; `imgsz` replaces the input size it was trained with and is rounded up to the stride.

    Raises UnsafeLoadingError if the library would run code from the file, WeightsInvalidError if the file is
    not a checkpoint or refers to anything but known layers, UnsupportedModelError if it is a model that
    is not served here.
    """
    _require_safe_loading()
    network, stored = _load(path)
    yaml = getattr(network, "yaml", {})
    if yaml.get("channels", NUM_CHANNELS) != NUM_CHANNELS:
        raise UnsupportedModelError(f"{path.name} takes {yaml['channels']} channels, served is RGB")
    try:
        task = _task(network.model[-1])
        labels = _labels(network.names)
        if task == "detect" and len(labels) != network.model[-1].nc:
            raise ValueError(f"{len(labels)} labels for {network.model[-1].nc} classes")
        stride = max(int(network.stride.max()), 32)  # as the library's predictor does
        height, width = _input_size(stored.get("imgsz") or DEFAULT_IMGSZ if imgsz is None else imgsz, stride)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WeightsInvalidError(f"{path.name}: {error}") from error
    end2end = bool(getattr(network, "end2end", False))
    return Checkpoint(network, task, labels, height, width, end2end)


def _require_safe_loading() -> None:
    from ultralytics.nn import tasks

    can_be_safe = getattr(getattr(tasks, "_SafeLoad", None), "SUPPORTED", False)
    if not (can_be_safe and getattr(tasks, "SAFE_LOAD", False)):
        raise UnsafeLoadingError(
            "refusing to unpickle weights: set ULTRALYTICS_SAFE_LOAD=true before this process starts "
            "(needs ultralytics with safe loading and torch 2.6 or newer)"
        )


def _load(path: Path) -> tuple[Any, Mapping[str, Any]]:
    """The fused network and the arguments it was trained with."""
    from ultralytics.nn import tasks
    from ultralytics.utils.checks import check_yolov5u_filename

    rename: Any = check_yolov5u_filename
    if rename(str(path), verbose=False) != str(path) or "'" in str(path) or str(path).strip() != str(path):
        # The library would look for another name, on the network too.
        raise WeightsInvalidError(f"{path}: rename this file, the library does not open it under this name")
    read: Any = tasks.load_checkpoint
    try:
        network, stored = read(str(path))
        return network.fuse(verbose=False), stored.get("train_args") or {}
    except (MemoryError, OSError):
        raise
    except Exception as error:  # foreign bytes can fail in any way there is
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsInvalidError(f"{path.name} is not a loadable checkpoint: {reason}") from error


def _task(head: Any) -> str:
    """What the last layer is for. What the file says of itself may be absent, and is then taken for detect."""
    from ultralytics.nn.modules import head as heads

    # By exact name: the open-vocabulary heads derive from Detect but want texts besides the image.
    if type(head).__name__ in DETECT_HEADS:
        return "detect"
    for name, task in OTHER_HEADS.items():
        if isinstance(head, getattr(heads, name)):
            return task
    raise UnsupportedModelError(f"networks that end in {type(head).__name__} are not served")


def _labels(names: Any) -> tuple[str, ...]:
    by_class = dict(names) if isinstance(names, dict) else dict(enumerate(names))
    return tuple(str(by_class[class_id]) for class_id in range(len(by_class)))


def _input_size(imgsz: Any, stride: int) -> tuple[int, int]:
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else [int(side) for side in imgsz]
    if len(sides) != 2 or not all(0 < side <= MAX_IMGSZ for side in sides):
        raise ValueError(f"input size {imgsz!r} is not one or two numbers from 1 to {MAX_IMGSZ}")
    height, width = (-(-side // stride) * stride for side in sides)
    return height, width
