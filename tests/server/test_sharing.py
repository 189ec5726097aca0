"""One run for equal requests: who gets its answer, and what of its failures. Runs are made up."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from pool import DeadlineExceededError, EntryFailedError, QueueFullError, Result
from server.errors import RequestFailedError
from server.metrics import Metrics
from server.response_cache import ContentKey, ResponseCache
from server.results import Answered, Timings
from server.sharing import Sharing, content_digest
from tests.server.conftest import until
from tests.server.test_metrics import samples


class Stands:
    """For a pool: it is only compared by identity."""


KEY = ContentKey(cast(Any, Stands()), b"digest")
Caller = asyncio.Task[Answered]


class Runs:
    """Each run waits for its turn: `outcomes` are futures, one per run, in the order in which they begin."""

    def __init__(self, num_runs: int = 50) -> None:
        self.outcomes = [asyncio.get_running_loop().create_future() for _ in range(num_runs)]
        self.leaders: list[object] = []
        self.num_cancelled = 0

    def by(self, leader: object) -> Callable[[float], Awaitable[Answered]]:
        async def run(deadline: float) -> Answered:
            number = len(self.leaders)
            self.leaders.append(leader)
            try:
                await asyncio.shield(self.outcomes[number])
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
            timings = Timings()
            timings.add({"decode": 1.0, "infer": 2.0})
            return Answered("m", "detect", (6, 4), Result(b"{}", {}, 1, 0, number), timings)

        return run


def make(max_bytes: int = 0, *, deduplicates: bool = True) -> Sharing:
    return Sharing(ResponseCache(max_bytes), Metrics(), deduplicates=deduplicates)


def ask(sharing: Sharing, runs: Runs, name: object, key: ContentKey = KEY, timeout: float = 20.0) -> Caller:
    return asyncio.create_task(sharing.answer(key, runs.by(name), time.monotonic() + timeout))


async def ask_many(sharing: Sharing, runs: Runs, num: int) -> list[Caller]:
    callers = [ask(sharing, runs, name) for name in range(num)]
    await settle()
    return callers


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_many_at_once_are_one_run_and_each_has_timings_of_its_own() -> None:
    sharing, runs = make(), Runs()
    callers = await ask_many(sharing, runs, 32)
    assert runs.leaders == [0] and sharing.num_flights == 1
    runs.outcomes[0].set_result(None)
    answers = await asyncio.gather(*callers)
    assert [answer.origin for answer in answers] == ["miss"] + ["shared"] * 31
    assert {answer.result.replica for answer in answers} == {0}
    assert len({id(answer.timings) for answer in answers}) == 32
    assert answers[0].timings.seconds["infer"] == 2.0
    follower = answers[1].timings.seconds
    assert follower["infer"] == follower["decode"] == 0.0 < follower["queue"]
    assert sharing.num_flights == 0


async def test_one_after_the_other_share_nothing_without_a_cache() -> None:
    sharing, runs = make(), Runs()
    for number in range(3):
        runs.outcomes[number].set_result(None)
        assert (await ask(sharing, runs, number)).origin == "miss"
    assert runs.leaders == [0, 1, 2]


async def test_other_content_and_another_pool_are_not_shared() -> None:
    sharing, runs = make(), Runs()
    others = [ContentKey(KEY.pool, b"other"), ContentKey(cast(Any, Stands()), KEY.digest)]
    callers = [ask(sharing, runs, key, key) for key in (KEY, *others)]
    await settle()
    assert runs.leaders == [KEY, *others]
    for outcome in runs.outcomes:
        outcome.set_result(None)
    assert [answer.origin for answer in await asyncio.gather(*callers)] == ["miss"] * 3


async def test_followers_survive_that_their_leader_disconnects() -> None:
    sharing, runs = make(), Runs()
    leader, *followers = await ask_many(sharing, runs, 4)
    leader.cancel()
    await settle()
    assert leader.cancelled() and not runs.num_cancelled
    late = ask(sharing, runs, "late")
    await settle()
    runs.outcomes[0].set_result(None)
    answers = await asyncio.gather(*followers, late)
    assert {answer.origin for answer in answers} == {"shared"} and runs.leaders == [0]


async def test_followers_survive_their_leaders_deadline_and_each_has_its_own() -> None:
    sharing, runs = make(), Runs()
    leader = ask(sharing, runs, 0, timeout=0.05)
    short, long = ask(sharing, runs, 1, timeout=0.1), ask(sharing, runs, 2)
    with pytest.raises(DeadlineExceededError):
        await leader
    assert not short.done()
    with pytest.raises(DeadlineExceededError):
        await short
    runs.outcomes[0].set_result(None)
    assert (await long).origin == "shared"
    assert runs.leaders == [0] and not runs.num_cancelled


async def test_a_follower_that_leaves_harms_nobody() -> None:
    sharing, runs = make(), Runs()
    leader, *followers = await ask_many(sharing, runs, 4)
    for follower in followers[:2]:
        follower.cancel()
    await settle()
    runs.outcomes[0].set_result(None)
    assert (await leader).origin == "miss" and (await followers[2]).origin == "shared"


async def test_the_last_to_leave_ends_the_run_and_waits_for_its_end() -> None:
    sharing, is_over = make(), False
    may_end = asyncio.Event()

    async def run(deadline: float) -> Answered:
        nonlocal is_over
        try:
            return await asyncio.Future()
        finally:
            await may_end.wait()  # a thread that writes into the slot cannot be stopped
            is_over = True

    callers = [asyncio.create_task(sharing.answer(KEY, run, time.monotonic() + 20)) for _ in range(2)]
    await settle()
    callers[0].cancel()
    await settle()
    assert callers[0].done()
    callers[1].cancel()
    await settle()
    callers[1].cancel()  # the server stops as well
    await settle()
    assert not callers[1].done() and sharing.num_flights == 0, "nobody may follow it any more"
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await callers[1]
    assert is_over


async def test_who_comes_while_a_run_is_being_ended_has_another() -> None:
    sharing, runs = make(), Runs()
    first = ask(sharing, runs, 0)
    await settle()
    first.cancel()
    await asyncio.sleep(0)
    second = ask(sharing, runs, 1)
    await settle()
    runs.outcomes[1].set_result(None)
    assert (await second).origin == "miss" and first.cancelled() and runs.num_cancelled == 1


async def test_of_the_followers_of_a_failed_run_one_leads_another_and_the_rest_follow() -> None:
    sharing, runs = make(), Runs()
    callers = await ask_many(sharing, runs, 8)
    runs.outcomes[0].set_exception(EntryFailedError("image_unprocessable", "poison"))
    with pytest.raises(EntryFailedError):
        await callers[0]
    await settle()
    assert runs.leaders == [0, 1], "no herd"
    runs.outcomes[1].set_result(None)
    answers = await asyncio.gather(*callers[1:])
    assert [answer.origin for answer in answers] == ["miss"] + ["shared"] * 6


async def test_what_fails_twice_has_failed_for_all_who_saw_it() -> None:
    sharing, runs = make(1 << 20), Runs()
    callers = await ask_many(sharing, runs, 8)
    runs.outcomes[0].set_exception(EntryFailedError("internal", "first"))
    await settle()
    late = ask(sharing, runs, "late")
    runs.outcomes[1].set_exception(RequestFailedError("image_undecodable"))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [EntryFailedError] + [RequestFailedError] * 7
    await settle()
    assert runs.leaders == [0, 1, "late"], "it has seen one failure only"
    runs.outcomes[2].set_result(None)
    assert (await late).origin == "miss", "errors are not kept"


async def test_a_leader_that_is_not_admitted_says_nothing_about_its_followers() -> None:
    sharing, runs = make(), Runs()
    callers = await ask_many(sharing, runs, 5)
    for number in range(3):
        runs.outcomes[number].set_exception(QueueFullError(1.0))
    runs.outcomes[3].set_result(None)
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [QueueFullError] * 3 + [Answered] * 2


async def test_a_run_that_fails_when_all_have_left_is_nobodys_complaint() -> None:
    sharing, runs = make(), Runs()
    (caller,) = await ask_many(sharing, runs, 1)
    runs.outcomes[0].set_exception(EntryFailedError("internal", "late"))
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await until(lambda: sharing.num_flights == 0)


@pytest.mark.parametrize("deduplicates", [True, False])
async def test_a_kept_answer_is_a_hit_and_everything_is_counted(deduplicates: bool) -> None:
    sharing, runs = make(1 << 20, deduplicates=deduplicates), Runs()
    callers = await ask_many(sharing, runs, 3)
    for outcome in runs.outcomes:
        outcome.set_result(None)
    await asyncio.gather(*callers)
    hit = await ask(sharing, runs, "later")
    assert hit.origin == "hit" and not any(hit.timings.seconds.values())
    assert runs.leaders == ([0] if deduplicates else [0, 1, 2])
    found = samples(generate_latest(sharing._metrics.registry).decode())
    assert found["engine_response_cache_total", "m", "hit"] == 1
    assert found["engine_response_cache_total", "m", "miss"] == len(runs.leaders)
    assert found.get(("engine_deduplicated_total", "m"), 0) == 3 - len(runs.leaders)


def test_the_digest_is_that_of_the_image_and_the_question_alone() -> None:
    image = bytes(range(256)) * 4
    text = base64.b64encode(image).decode()
    digest = content_digest(b'{"a":1}', image, 4096)
    assert len(digest) == 32
    assert content_digest(b'{"a":1}', text, 4096) == digest
    assert content_digest(b'{"a":2}', image, 4096) != digest
    assert content_digest(b'{"a":1}', image[1:], 4096) != digest
    assert content_digest(b'{"a":1}' + image[1:2], image[2:], 4096) != content_digest(
        b'{"a":1}', image[1:], 4096
    )
    with pytest.raises(RequestFailedError, match="invalid_base64"):
        content_digest(b"", "no base64", 4096)
