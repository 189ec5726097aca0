"""The network of `shapes-detect`: YOLOv8 at half the width of its nano size, with a box range cut to 320 pixels."""

from __future__ import annotations

from typing import Any

from models.demo.shapes import SHAPES

INPUT_SIZE = 320

#: In the library's own notation: [from, repeats, module, arguments], widths before `width_multiple`. `reg_max` 8
#: lets a box side lie 7 strides from its cell (224 pixels at stride 32), enough at 320 and half the head's cost.
ARCHITECTURE: dict[str, Any] = {
    "nc": len(SHAPES),
    "reg_max": 8,
    "depth_multiple": 0.33,
    "width_multiple": 0.125,
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],  # 0, stride 2
        [-1, 1, "Conv", [128, 3, 2]],  # 1, stride 4
        [-1, 3, "C2f", [128, True]],
        [-1, 1, "Conv", [256, 3, 2]],  # 3, stride 8
        [-1, 6, "C2f", [256, True]],
        [-1, 1, "Conv", [512, 3, 2]],  # 5, stride 16
        [-1, 6, "C2f", [512, True]],
        [-1, 1, "Conv", [1024, 3, 2]],  # 7, stride 32
        [-1, 3, "C2f", [1024, True]],
        [-1, 1, "SPPF", [1024, 5]],  # 9
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 3, "C2f", [512]],  # 12
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 3, "C2f", [256]],  # 15, stride 8
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 12], 1, "Concat", [1]],
        [-1, 3, "C2f", [512]],  # 18, stride 16
        [-1, 1, "Conv", [512, 3, 2]],
        [[-1, 9], 1, "Concat", [1]],
        [-1, 3, "C2f", [1024]],  # 21, stride 32
        [[15, 18, 21], 1, "Detect", ["nc"]],
    ],
}
