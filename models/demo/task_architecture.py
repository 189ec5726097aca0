"""The networks that learn the other tasks on the demo scenes: `shapes-detect` without its stride 32, other heads."""

from __future__ import annotations

from typing import Any

from models.demo.detect_architecture import ARCHITECTURE
from models.demo.shapes import SHAPES

INPUT_SIZE = 192
NUM_KEYPOINTS = 3

#: Layers 0 to 18 are kept, so that their weights fit; classify stops at 6, the last one at stride 16.
NUM_KEPT_LAYERS, NUM_CLASSIFY_LAYERS = 19, 7
#: Where the head stands in `shapes-detect`, and here: its first two scales are these networks' only ones.
OLD_HEAD, NEW_HEAD = "model.22.", "model.19."

_HEADS: dict[str, tuple[str, list[Any]]] = {
    "segment": ("Segment", ["nc", 16, 256]),
    "pose": ("Pose", ["nc", [NUM_KEYPOINTS, 3]]),
    "obb": ("OBB", ["nc", 1]),
}


def architecture(task: str) -> dict[str, Any]:
    """In the library's own notation, for `segment`, `pose`, `obb` or `classify`. Raises KeyError for other tasks."""
    layers = [*ARCHITECTURE["backbone"], *ARCHITECTURE["head"]]
    shared = {key: ARCHITECTURE[key] for key in ("reg_max", "depth_multiple", "width_multiple")} | {
        "nc": len(SHAPES)
    }
    if task == "classify":
        return {**shared, "backbone": layers[:NUM_CLASSIFY_LAYERS], "head": [[-1, 1, "Classify", ["nc"]]]}
    name, arguments = _HEADS[task]
    shape = {"kpt_shape": [NUM_KEYPOINTS, 3]} if task == "pose" else {}
    return {
        **shared,
        **shape,
        "backbone": ARCHITECTURE["backbone"],
        "head": [*layers[10:NUM_KEPT_LAYERS], [[15, 18], 1, name, arguments]],
    }
