from __future__ import annotations

from pool.quarantine import Quarantine, content_key
from tests.pool.conftest import picture


def test_the_key_is_the_same_for_the_same_pixels_and_parameters_only() -> None:
    key = content_key(picture(1), {"a": 1, "b": 2})
    assert content_key(picture(1), {"b": 2, "a": 1}) == key
    assert content_key(picture(2), {"a": 1, "b": 2}) != key
    assert content_key(picture(1), {"a": 1, "b": 3}) != key


def test_a_key_is_held_for_a_while() -> None:
    quarantine = Quarantine(10.0)
    quarantine.add(b"a", 0.0)
    quarantine.add(b"b", 5.0)
    assert quarantine.holds(b"a", 9.0)
    assert not quarantine.holds(b"a", 10.0)
    assert not quarantine.holds(b"c", 9.0)
    assert not quarantine.is_empty(14.0)
    assert quarantine.is_empty(15.0)


def test_being_condemned_again_prolongs_it() -> None:
    quarantine = Quarantine(10.0)
    quarantine.add(b"a", 0.0)
    quarantine.add(b"b", 1.0)
    quarantine.add(b"a", 8.0)
    assert quarantine.holds(b"a", 17.0)
    assert not quarantine.is_empty(17.0)


def test_it_is_bounded() -> None:
    quarantine = Quarantine(10.0)
    for number in range(2000):
        quarantine.add(b"%d" % number, 0.0)
    assert not quarantine.holds(b"0", 1.0)
    assert quarantine.holds(b"1999", 1.0)
