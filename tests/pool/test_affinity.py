from __future__ import annotations

from pool.affinity import Affinity


def test_a_key_belongs_to_the_replica_that_ran_it_last() -> None:
    affinity = Affinity()
    affinity.note("a", 0)
    affinity.note("a", 1)
    assert affinity.replica("a") == 1
    assert affinity.replica("b") is None


def test_no_key_is_nobodys() -> None:
    affinity = Affinity()
    affinity.note("", 1)
    assert affinity.replica("") is None


def test_a_dead_worker_has_forgotten_everything() -> None:
    affinity = Affinity()
    for number in range(10):
        affinity.note(f"{number}", number % 2)
    affinity.forget(1)
    assert [affinity.replica(f"{number}") for number in range(4)] == [0, None, 0, None]


def test_only_the_latest_keys_are_kept() -> None:
    affinity = Affinity()
    for number in range(5000):
        affinity.note(f"{number}", 0)
    affinity.note("1000", 0)
    affinity.note("new", 0)
    assert affinity.replica("0") is None
    assert affinity.replica("1000") == affinity.replica("new") == affinity.replica("4999") == 0
