"""What several images of one request have in common, whichever protocol lists them."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any, cast

import pytest

from server.answering import Answering
from server.body import BodyBudget, BodyShare
from server.errors import RequestFailedError
from server.intake import InferenceRequest
from server.several import answer_one

REQUEST = InferenceRequest("echo", None, {}, is_text=False, encoded=b"x" * 1000)


class FullAtFirst:
    """Takes an image's bytes over, as a shared run does, and has no room for the first `num_refused` times."""

    def __init__(self, budget: BodyBudget, num_refused: int) -> None:
        self._budget = budget
        self._num_refused = num_refused
        self.held: list[int] = []

    def admit(self, model_id: str, state: MutableMapping[str, Any]) -> None:
        pass

    async def answer(
        self, request: InferenceRequest, share: BodyShare, state: MutableMapping[str, Any]
    ) -> str:
        with share.moved():
            self.held.append(self._budget.num_bytes)
        if len(self.held) <= self._num_refused:
            raise RequestFailedError("queue_full", retry_after=0.0)
        return "answered"


async def ask(num_refused: int, seconds: float) -> tuple[Any, list[int]]:
    budget = BodyBudget(1500)
    answering = FullAtFirst(budget, num_refused)
    with budget.share() as share:
        share.grow(1000)
        answered = await answer_one(
            cast(Answering, answering), REQUEST, share, {}, time.monotonic() + seconds
        )
    assert budget.num_bytes == 0
    return answered, answering.held


@pytest.mark.asyncio
async def test_an_image_that_waits_for_room_counts_as_a_body_all_the_while() -> None:
    assert await ask(2, 30.0) == ("answered", [1000] * 3)


@pytest.mark.asyncio
async def test_it_waits_until_the_deadline_and_no_longer() -> None:
    started = time.monotonic()
    with pytest.raises(RequestFailedError) as refused:
        await ask(1000, 0.2)
    assert refused.value.code == "queue_full" and time.monotonic() - started < 2
