from __future__ import annotations

import pytest

from models.batch_sizes import batch_sizes, best_batch_size, measured_batch_size


@pytest.mark.parametrize(("largest", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_powers_of_two_are_tried_and_the_largest(largest: int, sizes: list[int]) -> None:
    assert batch_sizes(largest) == sizes


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 0.1, 2: 0.2, 4: 0.4, 8: 0.8}, 1),  # nothing gained: nobody waits for anybody
        ({1: 0.01, 2: 0.02, 4: 0.04, 8: 0.08}, 4),  # quick ones: the way to the front and back is shared
        ({1: 0.01, 2: 0.011, 4: 0.013, 8: 0.017}, 8),
        ({1: 0.01, 2: 0.011, 4: 0.02, 8: 0.04}, 4),
        ({1: 0.1}, 1),
    ],
)
def test_the_smallest_batch_that_gets_nearly_as_much_done_is_the_best(
    seconds: dict[int, float], best: int
) -> None:
    assert best_batch_size(seconds) == best


@pytest.mark.parametrize(
    ("each", "more", "best", "tried"),
    [
        (1.0, 0.0, 1, [1, 2]),  # slow and nothing gained: larger ones are not waited for
        (0.4, 0.6, 8, [1, 2, 4, 8]),  # slow, but every doubling gains
        (0.01, 0.0, 4, [1, 1, 2, 2, 4, 4, 8, 8]),  # quick: the better of two runs counts
    ],
)
def test_slow_batches_are_tried_only_while_they_gain(
    each: float, more: float, best: int, tried: list[int]
) -> None:
    sizes: list[int] = []

    def run(num_rows: int) -> float:
        sizes.append(num_rows)
        return more + each * num_rows

    assert measured_batch_size(run, 8) == best
    assert sizes == tried
