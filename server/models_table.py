"""The models as text, from catalogue and measured parity: the README's table and `inference-engine models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from models.catalogue import CATALOGUE, CatalogueEntry
from models.parity import Parity, read
from models.spec import Task

OUTPUTS: Mapping[Task, str] = {
    "detect": "boxes",
    "segment": "boxes, outlines or run lengths",
    "pose": "boxes, keypoints",
    "obb": "boxes, corners, angle",
    "classify": "likeliest classes",
    "vqa": "answer",
    "caption": "caption",
}


def models_table() -> str:
    """One row per series and task as Markdown, then what was measured beside the catalogue, and on which machine."""
    measured, parities = read()
    rows = ["| models | task | input | output | parity | compared |", "|---|---|---|---|---|---|"]
    for row, group in groupby(CATALOGUE.values(), key=lambda entry: entry.row):
        entries = list(group)
        rows.append(_markdown(_names(entries), entries[0], parities.get(row)))
    catalogued = {entry.row for entry in CATALOGUE.values()}
    for row, parity in parities.items():
        if row not in catalogued:
            rows.append(f"| {row} (test weights) | | | | {parity} | {_compared(parity)} |")
    return "\n".join([*rows, "", f"Measured on: {measured}."]) + "\n"


def _markdown(names: str, entry: CatalogueEntry, parity: Parity | None) -> str:
    task = entry.task
    output = OUTPUTS[task] if task else ""
    return f"| {names} | {task} | {input_text(entry)} | {output} | {parity or ''} | {_compared(parity)} |"


def _names(entries: Sequence[CatalogueEntry]) -> str:
    """`yolov8n`, `s`, `m` ...: the first in full, of the others what differs."""
    first, *others = (entry.model_id for entry in entries)
    if not others:
        return f"`{first}`"
    sizes = [
        other[next(i for i, (a, b) in enumerate(zip(first, other, strict=True)) if a != b)]
        for other in others
    ]
    return f"`{first}`, " + ", ".join(f"`{size}`" for size in sizes)


def _compared(parity: Parity | None) -> str:
    """How many answers, of which weights."""
    if parity is None or not parity.num_compared:
        return ""
    return f"{parity.num_compared}, `{parity.model}` ({parity.weights} weights)"


def input_text(entry: CatalogueEntry) -> str:
    """Size and how a picture gets to it."""
    if entry.family == "blip":
        how = "stretched, bicubic"
    elif entry.task == "classify":
        how = "shortest edge, centre crop"
    else:
        how = "stretched" if entry.series == "rtdetr" else "letterbox"
    return f"{entry.published_size}, {how}" if entry.published_size else how


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the cells under each other, two spaces apart."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
