from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from server.pixel_budget import PixelBudget


class Picture:
    """Holds part of a budget in a thread until it is told to end."""

    def __init__(self, budget: PixelBudget, num_pixels: int, threads: ThreadPoolExecutor) -> None:
        self.is_in, self._may_end = threading.Event(), threading.Event()
        self.job = threads.submit(self._hold, budget, num_pixels)

    def _hold(self, budget: PixelBudget, num_pixels: int) -> None:
        with budget.hold(num_pixels):
            self.is_in.set()
            assert self._may_end.wait(20)

    def end(self) -> None:
        self._may_end.set()
        self.job.result(20)


def test_pictures_are_decoded_together_as_far_as_the_budget_goes_and_in_order() -> None:
    budget = PixelBudget(10)
    with ThreadPoolExecutor(4) as threads:
        first, second = Picture(budget, 6, threads), Picture(budget, 4, threads)
        assert first.is_in.wait(20) and second.is_in.wait(20)
        large = Picture(budget, 9, threads)
        time.sleep(0.05)  # it waits by now; if not, the next lines still hold
        small = Picture(budget, 1, threads)
        first.end()
        assert not large.is_in.wait(0.05)
        second.end()
        assert large.is_in.wait(20) and small.is_in.wait(20)
        large.end()
        small.end()


def test_one_picture_is_always_let_in() -> None:
    budget = PixelBudget(10)
    with budget.hold(1000):
        pass
    with ThreadPoolExecutor(2) as threads:
        first, second = Picture(budget, 1000, threads), Picture(budget, 1, threads)
        assert first.is_in.wait(20) or second.is_in.wait(20)
        first.end() if first.is_in.is_set() else second.end()
        assert first.is_in.wait(20) and second.is_in.wait(20)
        first.end()
        second.end()


def test_what_a_failed_decode_held_is_given_back() -> None:
    budget = PixelBudget(10)
    for _ in range(3):
        try:
            with budget.hold(10):
                raise ValueError
        except ValueError:
            pass
    with budget.hold(10):
        pass
