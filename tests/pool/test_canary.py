from __future__ import annotations

import numpy as np
import pytest

from pool.canary import KnownAnswer, alike, paint


def test_it_looks_the_same_every_time_and_is_not_plain() -> None:
    one, other = np.zeros((2, 37, 50, 3), np.uint8)
    paint(one)
    paint(other)
    assert (one == other).all()
    assert len(np.unique(one)) > 200


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.001, 2.0]}, True),
        ({"a": [1.0, 2.0]}, {"a": [1.1, 2.0]}, False),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 640}, {"a": 650.5}, True),
        ({"a": "cat"}, {"a": "dog"}, False),
        ({"a": None}, {"a": 1.0}, False),
        ({"a": True}, {"a": 1}, False),
    ],
)
def test_numbers_may_differ_a_little_and_nothing_else(one: object, other: object, expected: bool) -> None:
    assert alike(one, other) is expected


def test_the_first_answer_is_the_right_one() -> None:
    known = KnownAnswer()
    assert known.check(b'{"a": 1}', is_fresh=True)
    assert known.check(b'{"a": 1.01}', is_fresh=False)
    assert not known.check(b'{"a": 2}', is_fresh=False)
    assert not known.check(b'{"a": null}', is_fresh=False)


@pytest.mark.parametrize("payload", [None, b"", b"[1]", b"nonsense"])
def test_what_is_no_answer_is_wrong_even_as_the_first(payload: bytes | None) -> None:
    known = KnownAnswer()
    assert not known.check(payload, is_fresh=True)
    assert known.check(b'{"a": 1}', is_fresh=True)


def test_two_fresh_workers_in_a_row_that_agree_overrule_the_first() -> None:
    known = KnownAnswer()
    assert known.check(b'{"a": 1}', is_fresh=True)
    assert not known.check(b'{"a": 2}', is_fresh=True)
    assert not known.check(b'{"a": 2}', is_fresh=False), "one that has served has no say"
    assert known.check(b'{"a": 2}', is_fresh=True)
    assert not known.check(b'{"a": 1}', is_fresh=False)


def test_a_worker_that_is_right_settles_the_doubt() -> None:
    known = KnownAnswer()
    assert known.check(b'{"a": 1}', is_fresh=True)
    assert not known.check(b'{"a": 2}', is_fresh=True)
    assert known.check(b'{"a": 1}', is_fresh=True)
    assert not known.check(b'{"a": 2}', is_fresh=True)
