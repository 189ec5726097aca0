"""One line of the report: what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is for programs and stays the same from release to release; `remedy` is a command or a setting."""

    name: str
    status: Status
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") == bool(self.remedy):
            raise ValueError(
                f"{self.name}: a remedy belongs to a warning or a problem, to each of them, and to no other"
            )


@dataclass(frozen=True, slots=True)
class Section:
    """Findings about one subject."""

    title: str
    findings: Sequence[Finding]


def ok(name: str, text: str) -> Finding:
    """All is well, or simply told."""
    return Finding(name, "ok", text)


def warning(name: str, text: str, remedy: str) -> Finding:
    """The server works, but slower, with less, or not for long."""
    return Finding(name, "warning", text, remedy)


def problem(name: str, text: str, remedy: str) -> Finding:
    """The server does not start, or something that it was told to serve will not be served."""
    return Finding(name, "problem", text, remedy)
