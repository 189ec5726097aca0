"""``inference-engine models``: what can be served, what of it is on this machine, and how near it is to the library."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from models.parity import Parity, read
from models.stored import stored_bytes
from server.launch import factory_config
from server.models_table import columns
from server.settings import Settings
from server.table import Known

HEADER = ("name", "task", "loads", "on disk", "parity", "description")


def print_models(settings: Settings, known: Iterable[Known]) -> None:
    """One line per model, for a terminal as a table. Raises BrokenPipeError where nobody reads on."""
    parities = read()[1]
    rows = [_row(settings, model, parities.get(model.entry.row)) for model in known]
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        print("\n".join(columns([HEADER, *rows])))


def _row(settings: Settings, model: Known, parity: Parity | None) -> tuple[str, ...]:
    entry = model.entry
    size = stored_bytes(factory_config(settings, entry))
    is_own = entry.source == "file"
    return (
        entry.model_id,
        entry.task or "?",
        "at start" if model.loads_at_start else "on demand",
        "-" if size is None else f"{size / 1e6:.1f} MB",
        "-" if parity is None or is_own else str(parity),
        entry.description,
    )


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*HEADER, box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
