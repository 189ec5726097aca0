"""What runtimes and precisions cost in accuracy, as text: the README's table."""

from __future__ import annotations

from models.accuracy import MAX_LOSS, Accuracy, points_lost, read


def accuracy_table() -> str:
    """One row per model, runtime and precision as Markdown, then on which machine it was measured."""
    measured, rows = read()
    lines = [
        "| model | runtime | precision | measured | score | points lost | `auto` may take it |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row, points_lost(row, rows)) for row in rows]
    return "\n".join([*lines, "", f"Measured on: {measured}."]) + "\n"


def _line(row: Accuracy, lost: float | None) -> str:
    runtime = f"{row.runtime}, {row.variant}" if row.variant else row.runtime
    precision = f"{row.precision} (emulated)" if row.is_emulated else row.precision
    # where it is no loss at all a minus sign would only puzzle
    points = "" if lost is None else f"{max(lost, 0.0):.2f}" if abs(lost) < 0.005 else f"{lost:.2f}"
    is_close = lost is not None and lost <= MAX_LOSS
    allowed = "only when asked for" if row.precision == "int8" else "yes" if is_close else "no"
    return (
        f"| `{row.model}` | {runtime} | {precision} | {row.metric}, {row.num_pictures} scenes | {row.score:.4f} "
        f"| {points} | {allowed} |"
    )
