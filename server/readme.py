"""The tables of README.md that come from the code: ``python -m server.readme`` writes them anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from server.accuracy_table import accuracy_table
from server.errors import KINDS
from server.metrics_table import metrics_table
from server.models_table import models_table
from server.settings_table import settings_table

README = Path(__file__).resolve().parent.parent / "README.md"


def errors_table() -> str:
    """Every code with its status and message, as markdown."""
    rows = [f"| {kind.status.value} | `{code}` | {kind.message} |" for code, kind in KINDS.items()]
    return "\n".join(["| status | code | message |", "|---|---|---|", *rows])


TABLES: Mapping[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "models": models_table,
    "accuracy": accuracy_table,
    "metrics": metrics_table,
}


def filled(text: str) -> str:
    """`text` with every table between its two markers made anew. Raises ValueError where a marker is missing."""
    for name, make in TABLES.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        places = pattern.findall(text)
        if len(places) != 1:
            raise ValueError(f"README.md has {len(places)} places for {name}")
        start, end = places[0]
        text = pattern.sub((start + make().strip() + "\n" + end).replace("\\", r"\\"), text)
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
