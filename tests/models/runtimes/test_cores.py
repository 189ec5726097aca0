from __future__ import annotations

import os
import threading

from models.runtimes import cores


def test_inside_a_thread_and_those_it_starts_run_on_the_cores_and_afterwards_where_they_did() -> None:
    before = os.sched_getaffinity(0)
    first = min(before)
    seen: list[set[int]] = []
    with cores.on([first]):
        assert os.sched_getaffinity(0) == {first}
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert seen == [{first}]
    assert os.sched_getaffinity(0) == before


def test_no_cores_or_none_that_are_there_change_nothing() -> None:
    before = os.sched_getaffinity(0)
    for numbers in ([], [4000]):
        with cores.on(numbers):
            assert os.sched_getaffinity(0) == before
