"""How many rows are worth running together. No torch.

Rows of a larger batch wait for each other, so a smaller one that gets as much done is better for everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

ROUND_TRIP = 0.0015
"""Seconds between two batches of a worker: answers to the front, the next batch back."""
WORTH = 0.95
"""Of the best throughput: less is not given up for a smaller batch."""

SLOW = 0.3
"""Seconds of a batch from which on measuring costs too much: larger ones are tried only while they gain."""


def batch_sizes(max_batch_size: int) -> list[int]:
    """Those that are tried: powers of two, and the largest."""
    sizes = [1 << exponent for exponent in range(max_batch_size.bit_length())]
    return sizes if sizes[-1] == max_batch_size else [*sizes, max_batch_size]


def best_batch_size(seconds: Mapping[int, float]) -> int:
    """The smallest size that gets nearly as much done as any; `seconds` are what a batch of each size takes."""
    per_second = {size: size / (taken + ROUND_TRIP) for size, taken in seconds.items()}
    enough = WORTH * max(per_second.values())
    return min(size for size, rate in per_second.items() if rate >= enough)


def measured_batch_size(run: Callable[[int], float], max_batch_size: int) -> int:
    """The best size, by running batches: `run` says what one of a number of rows took, in seconds."""
    seconds: dict[int, float] = {}
    for size in batch_sizes(max_batch_size):
        taken = run(size)
        seconds[size] = taken if taken > SLOW else min(taken, run(size))
        if taken > SLOW and best_batch_size(seconds) != size:
            break
    return best_batch_size(seconds)
