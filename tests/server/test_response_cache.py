"""What is kept of answers, within bytes. No pool runs: any object stands for one."""

from __future__ import annotations

import tracemalloc
from typing import Any, cast

import pytest

from pool import Pool, Result
from server.response_cache import OVERHEAD, ContentKey, ResponseCache
from server.results import Answered, Timings


class Stands:
    """For a pool: it is only compared by identity."""


def a_pool() -> Pool:
    return cast(Any, Stands())


POOL = a_pool()


def key(name: object, pool: Pool = POOL) -> ContentKey:
    return ContentKey(pool, str(name).encode())


def answered(num_bytes: int = 100) -> Answered:
    result = Result(b"x" * num_bytes, {"queue": 0.1, "infer": 0.2, "post": 0.3}, 4, 0, 0)
    return Answered("m", "detect", (6, 4), result, Timings())


def test_what_was_put_is_found_without_the_timings_of_its_run() -> None:
    cache = ResponseCache(1 << 20)
    cache.put(key("a"), answered())
    found = cache.get(key("a"))
    assert found is not None
    assert (found.result.payload, found.result.batch_size, found.size) == (b"x" * 100, 4, (6, 4))
    assert found.timings.seconds == found.result.timings == {}
    assert cache.get(key("b")) is None
    assert cache.get(key("a", a_pool())) is None, "another pool, other weights"


def test_the_least_recently_used_answer_goes_first() -> None:
    cache = ResponseCache(3 * (OVERHEAD + 100))
    for name in "abc":
        cache.put(key(name), answered())
    assert cache.get(key("a")) is not None
    cache.put(key("d"), answered())
    assert [name for name in "abcd" if cache.get(key(name))] == ["a", "c", "d"]


@pytest.mark.parametrize("max_bytes", [0, 5000, 100_000])
def test_the_bound_in_bytes_holds_under_many_distinct_answers(max_bytes: int) -> None:
    cache, largest = ResponseCache(max_bytes), 0
    for number in range(2000):
        cache.put(key(number), answered(number * 37 % 9000))
        assert cache.num_bytes <= max_bytes
        largest = max(largest, cache.num_bytes)
    assert largest >= max_bytes * 0.7
    assert bool(max_bytes) == bool(len(cache))


def test_an_answer_larger_than_the_budget_is_not_kept_and_drives_nothing_out() -> None:
    cache = ResponseCache(2 * OVERHEAD)
    cache.put(key("a"), answered())
    cache.put(key("b"), answered(4 * OVERHEAD))
    assert cache.get(key("a")) is not None and cache.get(key("b")) is None


def test_the_first_of_two_equal_answers_stays_and_is_counted_once() -> None:
    cache = ResponseCache(1 << 20)
    cache.put(key("a"), answered(1))
    cache.put(key("a"), answered(2))
    assert cache.num_bytes == OVERHEAD + 1


def test_a_pool_that_left_keeps_nothing_and_gets_nothing_any_more() -> None:
    cache, other = ResponseCache(1 << 20), a_pool()
    for pool in (POOL, other):
        for name in "ab":
            cache.put(key(name, pool), answered())
    cache.drop(other)
    cache.put(key("c", other), answered())
    assert (len(cache), cache.num_bytes) == (2, 2 * (OVERHEAD + 100))
    assert [cache.get(key(name, other)) for name in "abc"] == [None] * 3


def test_an_answer_takes_no_more_memory_than_is_counted() -> None:
    cache = ResponseCache(1 << 30)
    cache.put(key("warm"), answered())
    tracemalloc.start()
    try:
        for number in range(4000):
            digest = number.to_bytes(32, "big")
            cache.put(ContentKey(POOL, digest), answered(500))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= cache.num_bytes
