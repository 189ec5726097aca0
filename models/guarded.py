"""The factories that workers are given: each family's own, on a device that is there, its model guarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models import blip, yolo
from models.answers import Progress
from models.faults import Guarded, check_present

_NUM_FIGURES = 5


def load_yolo(config: Mapping[str, Any], device: str, progress: Progress) -> Guarded:
    """`models.yolo.load`. Raises DeviceLostError besides what that raises."""
    return _guard(yolo.load, config, device, progress)


def load_blip(config: Mapping[str, Any], device: str, progress: Progress) -> Guarded:
    """`models.blip.load`. Raises DeviceLostError besides what that raises."""
    return _guard(blip.load, config, device, progress)


def _guard(
    load: Callable[[Mapping[str, Any], str, Progress], Any],
    config: Mapping[str, Any],
    device: str,
    progress: Progress,
) -> Guarded:
    check_present(device)
    model = load(config, device, progress)
    return Guarded(model, device, canary_params(model.spec))


def canary_params(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with which any picture has an answer that is worth comparing, and cheap."""
    if spec["task"] in ("vqa", "caption"):
        return {"max_new_tokens": 4}
    if spec["task"] == "classify":
        return {"top": _NUM_FIGURES}
    size = {"width": spec["input_width"], "height": spec["input_height"]}
    return {**size, "confidence": 0.0, "max_detections": _NUM_FIGURES}
