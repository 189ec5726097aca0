"""From answers to tensors: what a task has to say, column by column. Objects of several images follow each other, and
`num_detections` says how many are whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from models.spec import Task
from server.errors import RequestFailedError

JSON = "json"
"""The output that every task has: all of `POST /inference`'s reply for each image."""
_ANY = -1

Answers = Sequence[Mapping[str, Any]]
"""JSON types of the replies, one for each image."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output tensor; `values` in row-major order, flat: numbers, or texts of BYTES."""

    name: str
    datatype: str
    shape: list[int]
    values: list[Any]


@dataclass(frozen=True, slots=True)
class Column:
    """How an output is made; `shape` as metadata gives it, -1 for any length."""

    datatype: str
    shape: tuple[int, ...]
    read: Callable[[Answers], tuple[list[int], list[Any]]]
    """To the shape and the values."""

    def output(self, name: str, answers: Answers) -> Output:
        """The tensor."""
        shape, values = self.read(answers)
        return Output(name, self.datatype, shape, values)


def _of_objects(
    datatype: str, shape: tuple[int, ...], read: Callable[[Mapping[str, Any]], Sequence[Any]]
) -> Column:
    """One row for each object of each image; `read` makes its flat values."""

    def column(answers: Answers) -> tuple[list[int], list[Any]]:
        rows = [read(found) for answer in answers for found in answer["predictions"]]
        inner = [_length(rows, shape) if length == _ANY else length for length in shape]
        return [len(rows), *inner], list(chain.from_iterable(rows))

    return Column(datatype, (_ANY, *shape), column)


def _length(rows: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> int:
    """Of the one dimension that differs between networks; 0 where nothing was found."""
    return len(rows[0]) // shape[-1] if rows else 0


def _of_classes(datatype: str, name: str) -> Column:
    """One row for each image, one value for each of its likeliest classes."""

    def column(answers: Answers) -> tuple[list[int], list[Any]]:
        rows = [[found[name] for found in answer["top"]] for answer in answers]
        return [len(rows), len(rows[0])], list(chain.from_iterable(rows))

    return Column(datatype, (_ANY, _ANY), column)


def _count(answers: Answers) -> tuple[list[int], list[Any]]:
    return [len(answers)], [len(answer["predictions"]) for answer in answers]


def _text(one: str, several: str) -> Column:
    """One row for each image, one text for each prompt."""

    def column(answers: Answers) -> tuple[list[int], list[Any]]:
        rows = [
            [said[one] for said in answer[several]] if answer.get(several) is not None else [answer[one]]
            for answer in answers
        ]
        return [len(rows), len(rows[0])], list(chain.from_iterable(rows))

    return Column("BYTES", (_ANY, _ANY), column)


def _keypoints(found: Mapping[str, Any]) -> list[float]:
    points = found["keypoints"]
    return [number for point in points for number in (point["x"], point["y"], point.get("confidence", 1.0))]


def _mask(found: Mapping[str, Any]) -> list[str]:
    return [orjson.dumps(found["mask"] if "mask" in found else found["polygon"]).decode()]


_DETECT = {
    "boxes": _of_objects(
        "FP32", (4,), lambda found: [found["box"][side] for side in ("x1", "y1", "x2", "y2")]
    ),
    "scores": _of_objects("FP32", (), lambda found: [found["confidence"]]),
    "class_ids": _of_objects("INT64", (), lambda found: [found["class_id"]]),
    "labels": _of_objects("BYTES", (), lambda found: [found["label"]]),
    "num_detections": Column("INT64", (_ANY,), _count),
}
_CLASSIFY = {
    "scores": _of_classes("FP32", "confidence"),
    "class_ids": _of_classes("INT64", "class_id"),
    "labels": _of_classes("BYTES", "label"),
}
COLUMNS: Mapping[Task, Mapping[str, Column]] = {
    "detect": _DETECT,
    "segment": {**_DETECT, "masks": _of_objects("BYTES", (), _mask)},
    "pose": {**_DETECT, "keypoints": _of_objects("FP32", (_ANY, 3), _keypoints)},
    "obb": {
        **_DETECT,
        "corners": _of_objects("FP32", (4, 2), lambda found: list(chain.from_iterable(found["corners"]))),
        "angle": _of_objects("FP32", (), lambda found: [found["angle"]]),
    },
    "classify": _CLASSIFY,
    "vqa": {"answer": _text("answer", "answers")},
    "caption": {"answer": _text("caption", "captions")},
}


def names_of(task: Task) -> list[str]:
    """All outputs of `task`."""
    return [*COLUMNS[task], JSON]


def check_names(names: Sequence[str], task: Task) -> None:
    """Raises RequestFailedError for an output that there is none of, or that is asked for twice."""
    known = names_of(task)
    for position, name in enumerate(names):
        if name not in known:
            raise RequestFailedError(
                "invalid_tensor", name, reason=f"is no output of this model; there are {', '.join(known)}"
            )
        if name in names[:position]:
            raise RequestFailedError("invalid_tensor", name, reason="is asked for twice")


def make_outputs(names: Sequence[str], task: Task, replies: Sequence[bytes]) -> list[Output]:
    """The outputs `names` of `task` out of the replies for each image, JSON objects."""
    answers = [] if list(names) == [JSON] else [orjson.loads(reply) for reply in replies]
    return [
        Output(JSON, "BYTES", [len(replies)], [reply.decode() for reply in replies])
        if name == JSON
        else COLUMNS[task][name].output(name, answers)
        for name in names
    ]
