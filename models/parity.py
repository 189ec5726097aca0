"""How near our answers are to the library's, as measured: figures from `parity.json`, which `bench.parity` writes.

Plain data without torch, read by the command line and by who makes the README's table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("parity.json")


@dataclass(frozen=True, slots=True)
class Parity:
    """One row of the table of models, measured with the weights of `model`.

    `num_compared` answers were compared: boxes, or a classifier's likeliest classes. All of them had a partner, none
    was left over, or there is no figure. `worst_iou` is of boxes and, where there are, outlines; `worst_distance` in
    pixels of the original, of corners and, where there are, keypoints. `text` replaces it all, for what is not
    measured so.
    """

    model: str
    weights: str = ""
    num_compared: int = 0
    worst_iou: float | None = None
    worst_confidence: float | None = None
    worst_distance: float | None = None
    text: str = ""

    def __str__(self) -> str:
        if self.text:
            return self.text
        parts = [] if self.worst_iou is None else [f"IoU ≥ {_floor(self.worst_iou)}"]
        if self.worst_confidence is not None:
            parts.append(f"confidence ± {_ceiling(self.worst_confidence)}")
        if self.worst_distance is not None:
            parts.append(f"place ± {_ceiling(self.worst_distance)} px")
        return ", ".join(parts)


def _floor(iou: float) -> str:
    """Rounded down: nothing looks better than it was measured."""
    return f"{math.floor(iou * 1e5) / 1e5:.5f}"


def _ceiling(difference: float) -> str:
    """Rounded up, to one digit."""
    if difference == 0.0:
        return "0"
    unit = 10.0 ** math.floor(math.log10(difference))
    return f"{math.ceil(difference / unit) * unit:.0e}"


def read(path: Path = FILE) -> tuple[str, Mapping[str, Parity]]:
    """Machine and versions, and the figures by the row of the table. Raises OSError, ValueError, TypeError."""
    document = json.loads(path.read_text("utf-8"))
    return document["measured"], {row: Parity(**fields) for row, fields in document["rows"].items()}


def write(measured: str, rows: Mapping[str, Parity], path: Path = FILE) -> None:
    """Write `rows`, on `measured` (machine and versions); rows that are in the file and not in `rows` stay."""
    kept = read(path)[1] if path.exists() else {}
    fields: dict[str, Any] = {row: asdict(parity) for row, parity in {**kept, **rows}.items()}
    plain = {
        row: {
            name: value
            for name, value in each.items()
            if value not in (None, "", 0) or name == "worst_confidence"
        }
        for row, each in fields.items()
    }
    path.write_text(json.dumps({"measured": measured, "rows": plain}, indent=1) + "\n", "utf-8")
