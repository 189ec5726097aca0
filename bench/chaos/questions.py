"""Where requests come from: each question knows its picture, its request and its right answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bench.chaos.pictures import numbered, shifted
from bench.client import Connection, build_request, connect

_MAX_SHIFT = 0.25
"""Pixels; neighbours in a batch move a box by far less, the next picture's box is a pixel or more away."""
_MAX_CONFIDENCE_SHIFT = 0.01


@dataclass(frozen=True, slots=True)
class Question:
    """`key` identifies the picture in the fault log; `expected` is the status, and the code where it is an error."""

    key: int
    request: bytes
    is_right: Callable[[Mapping[str, Any]], bool]
    expected: tuple[int, str] = (200, "")


class Source(Protocol):
    """Makes question number `number`; the same number is the same question."""

    def question(self, number: int, request_id: str) -> Question:
        """Raises nothing."""


class NumberedPictures:
    """For the fake model. Every `poison_every`-th picture is poison, from the first on; 0: none."""

    def __init__(self, url: str, model: str, side: int, poison_every: int = 0) -> None:
        self._url, self._model, self._side = url, model, side
        self._poison_every = poison_every

    def question(self, number: int, request_id: str) -> Question:
        """A picture that was never asked about before."""
        poison = bool(self._poison_every) and number % self._poison_every == self._poison_every // 2
        image, crc = numbered(number, self._side, poison=poison)
        request = build_request(self._url, self._model, image, request_id=request_id)
        expected = (422, "image_unprocessable") if poison else (200, "")
        return Question(crc, request, lambda answer: answer.get("crc") == crc, expected)


class CalmPictures:
    """For a real detector: pictures in turn, each with the answer that it had when nothing was wrong."""

    def __init__(self, url: str, model: str, images: Sequence[bytes], answers: Sequence[Any]) -> None:
        """Raises ValueError where two answers are so alike that a mix-up could not be seen."""
        for number, answer in enumerate(answers):
            if not answer or any(alike(answer, other) for other in answers[:number]):
                raise ValueError(f"picture {number} cannot be told from another by its answer")
        self._url, self._model = url, model
        self._images, self._answers = images, answers

    def question(self, number: int, request_id: str) -> Question:
        """The pictures go round."""
        key = number % len(self._images)
        request = build_request(self._url, self._model, self._images[key], request_id=request_id)
        return Question(key, request, lambda answer: alike(answer["predictions"], self._answers[key]))


async def ask_calmly(url: str, model: str, count: int) -> CalmPictures:
    """Ask for `count` pictures one by one, while nothing is wrong."""
    images = shifted(count)
    connection: Connection = await connect(url)
    answers = []
    for number, image in enumerate(images):
        reply = await connection.send(build_request(url, model, image, request_id=f"calm-{number}"))
        if reply.status != 200:
            raise RuntimeError(f"the calm answer is {reply.status}: {reply.body!r}")
        answers.append(json.loads(reply.body)["predictions"])
    connection.close()
    return CalmPictures(url, model, images, answers)


def alike(some: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> bool:
    """The same objects at the same places."""
    pairs = zip(sorted(some, key=_place), sorted(others, key=_place), strict=False)
    return len(some) == len(others) and all(_is_same(one, other) for one, other in pairs)


def _place(prediction: Mapping[str, Any]) -> tuple[str, float]:
    return prediction["label"], prediction["box"]["x1"]


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (
        one["label"] == other["label"]
        and abs(one["confidence"] - other["confidence"]) <= _MAX_CONFIDENCE_SHIFT
        and all(abs(one["box"][side] - other["box"][side]) <= _MAX_SHIFT for side in one["box"])
    )
