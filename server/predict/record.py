"""What is written of one source, as JSON lines or as rows; and how it is read back when a run goes on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

Fields = Mapping[str, Any]
"""`source`, and the reply's fields or `error`."""

COLUMNS = (
    "source", "model_id", "task", "width", "height", "number", "label", "class_id", "confidence",
    "x1", "y1", "x2", "y2", "polygon", "mask", "keypoints", "corners", "angle",
    "prompt", "answer", "caption", "error_code", "error_message",
)  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A source's record in a file: its bytes as they stand there."""

    source: str
    model_id: str | None
    is_success: bool
    raw: bytes


@dataclass(frozen=True)
class Format:
    """`head` begins a file; `read` skips it and gives the whole records of a file, without one that may be half.
    Raises ValueError where the file is something else."""

    head: bytes
    encode: Callable[[Fields], bytes]
    read: Callable[[BinaryIO], Iterator[Written]]


def _json_line(fields: Fields) -> bytes:
    return orjson.dumps(fields) + b"\n"


def _read_json_lines(file: BinaryIO) -> Iterator[Written]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return  # cut by a kill
        fields = json.loads(line)
        if not isinstance(fields, dict) or "source" not in fields:
            raise ValueError(f"line {number} is no record")
        yield Written(fields["source"], fields.get("model_id"), "error" not in fields, line)


def _rows(fields: Fields) -> bytes:
    """One row a prediction, class or answer; one at least, so that a picture with nothing in it is seen."""
    size, error = fields.get("image") or {}, fields.get("error") or {}
    shared = {
        "source": fields["source"], "model_id": fields.get("model_id"), "task": fields.get("task"),
        "width": size.get("width"), "height": size.get("height"),
        "error_code": error.get("code"), "error_message": error.get("message"),
    }  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    for number, item in enumerate(_items(fields)):
        cells = {**item, **item.get("box", {}), "number": number, **shared}
        writer.writerow({name: _cell(value) for name, value in cells.items()})
    return text.getvalue().encode()


def _items(fields: Fields) -> list[Mapping[str, Any]]:
    for name in ("predictions", "top", "answers", "captions"):
        if name in fields:
            return list(fields[name]) or [{}]
    return [{name: fields.get(name) for name in ("prompt", "answer", "caption")}]


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def _read_rows(file: BinaryIO) -> Iterator[Written]:
    """The last source's rows may be some of them only: they are left out."""
    consumed: list[bytes] = []

    def lines() -> Iterator[str]:
        for line in file:
            consumed.append(line)
            yield line.decode()

    rows = csv.reader(lines())
    head = next(rows, None)
    if head is not None and tuple(head) != COLUMNS and b"".join(consumed).endswith(b"\n"):
        raise ValueError("the first line is not that of a table of predict")
    consumed.clear()
    previous: Written | None = None
    for row in rows:
        if len(row) != len(COLUMNS):
            break  # cut by a kill
        raw = b"".join(consumed)
        consumed.clear()
        cells = dict(zip(COLUMNS, row, strict=True))
        is_next = cells["number"] == "0"
        if previous is not None and is_next:
            yield previous
        before = b"" if previous is None or is_next else previous.raw
        is_success = not cells["error_code"]
        previous = Written(cells["source"], cells["model_id"] or None, is_success, before + raw)


def _table_head() -> bytes:
    return (",".join(COLUMNS) + "\n").encode()


FORMATS: Mapping[str, Format] = {
    "jsonl": Format(b"", _json_line, _read_json_lines),
    "csv": Format(_table_head(), _rows, _read_rows),
}
