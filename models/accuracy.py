"""How much accuracy each runtime and precision costs: written by the bench, read by the choice and the README's table.

No torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("accuracy.json")
MAX_LOSS = 0.5
"""Points (hundredths) of the metric that `auto` may lose against PyTorch in fp32."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One row: `score` is from 0 to 1, measured on `num_pictures` of the shapes set's held-out scenes.

    `runtime` is torch, openvino or tensorrt; `variant` says what differs besides runtime and precision (how JPEGs are
    decoded), empty for nothing. `is_emulated`: the arithmetic was imitated, on a machine that does not have it.
    """

    model: str
    runtime: str
    precision: str
    metric: str
    score: float
    num_pictures: int
    variant: str = ""
    is_emulated: bool = False

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What no two rows share."""
        return self.model, self.runtime, self.precision, self.variant


def read(path: Path = FILE) -> tuple[str, Sequence[Accuracy]]:
    """Machine and versions, and all rows. Raises OSError, ValueError, TypeError."""
    document = json.loads(path.read_text("utf-8"))
    return document["measured"], [Accuracy(**fields) for fields in document["rows"]]


def write(measured: str, rows: Iterable[Accuracy], path: Path = FILE) -> None:
    """Write `rows`, on `measured` (machine and versions); rows that are in the file and not among them stay."""
    kept = {row.place: row for row in (read(path)[1] if path.exists() else [])}
    kept |= {row.place: row for row in rows}
    document = {"measured": measured, "rows": [asdict(row) for _, row in sorted(kept.items())]}
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def points_lost(row: Accuracy, rows: Iterable[Accuracy]) -> float | None:
    """Hundredths that `row` lies below PyTorch in fp32 on the same model; None if that was not measured."""
    for other in rows:
        if other.place == (row.model, "torch", "fp32", "") and other.metric == row.metric:
            return 100.0 * (other.score - row.score)
    return None


@cache
def _published() -> Sequence[Accuracy]:
    return read()[1]


def loss(model: str, runtime: str, precision: str) -> float | None:
    """The published loss in points, negative for a gain; None if it was not measured."""
    for row in _published():
        if row.place == (model, runtime, precision, ""):
            return points_lost(row, _published())
    return None
