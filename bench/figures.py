"""A figure against what is asked of it, and Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""What a bench has printed."""


@dataclass(frozen=True)
class Figure:
    """One line: `value` is held against `bound`, at least it or at most; None: reported."""

    name: str
    value: float
    bound: float | None
    at_least: bool = True
    spread: Sequence[float] | None = None
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it reaches what is asked."""
        return self.bound is None or (self.value >= self.bound if self.at_least else self.value <= self.bound)

    def row(self) -> tuple[str, str, str, str]:
        """Name, asked for, measured, verdict."""
        sign = "≥" if self.at_least else "≤"
        asked = "reported" if self.bound is None else f"{sign} {self.bound:g}{self.unit}"
        spread = f" ({self.spread[0]:.2f} to {self.spread[1]:.2f})" if self.spread else ""
        return self.name, asked, f"{self.value:.2f}{self.unit}{spread}", "" if self.is_met else "**missed**"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
