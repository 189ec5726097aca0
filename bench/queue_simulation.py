"""What a queue with the server's batching rule must show for given arrivals, if nothing but waiting and service counts.

A free replica takes what waits, up to the largest batch, and is busy for that batch's service time, which may be
another one where all replicas were free and nothing else waited. Real latencies are held against it: what they exceed
it by is the server's own doing. Pure; time is what the arrivals say.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping, Sequence

ServiceTime = Callable[[int], float]
"""Seconds that a batch of a size takes."""


def simulate(
    arrivals: Sequence[float],
    num_replicas: int,
    max_batch_size: int,
    service_time: ServiceTime,
    time_alone: ServiceTime | None = None,
) -> list[float]:
    """The latency in seconds of each of `arrivals`, which are moments in ascending order, in their order.

    `time_alone` is of a batch that begins with all replicas free and nothing else waiting.
    """
    free_at = [0.0] * num_replicas if not arrivals else [arrivals[0]] * num_replicas
    latencies: list[float] = []
    head = 0
    while head < len(arrivals):
        start = max(heapq.heappop(free_at), arrivals[head])
        end = head + 1
        while end < len(arrivals) and end - head < max_batch_size and arrivals[end] <= start:
            end += 1
        is_alone = all(moment <= start for moment in free_at) and not (
            end < len(arrivals) and arrivals[end] <= start
        )
        seconds = time_alone if is_alone and time_alone else service_time
        done = start + seconds(end - head)
        latencies += [done - arrival for arrival in arrivals[head:end]]
        heapq.heappush(free_at, done)
        head = end
    return latencies


class MeasuredServiceTimes:
    """Draws from what was measured for each batch size; one that was never seen is scaled from the nearest.

    Scaled along a line through the means of the sizes that were seen, where there are two or more.
    """

    def __init__(self, samples: Mapping[int, Sequence[float]], seed: int = 0) -> None:
        """`samples`: seconds by batch size. Raises ValueError when there are none."""
        self._samples = {size: list(seconds) for size, seconds in samples.items() if seconds}
        if not self._samples:
            raise ValueError("no service times")
        self._means = {size: sum(each) / len(each) for size, each in self._samples.items()}
        self._random = random.Random(seed)

    def __call__(self, size: int) -> float:
        """Seconds for one batch."""
        nearest = min(self._samples, key=lambda seen: (abs(seen - size), seen))
        drawn = self._random.choice(self._samples[nearest])
        return drawn if nearest == size else drawn * self.mean(size) / self._means[nearest]

    def mean(self, size: int) -> float:
        """Expected seconds; between sizes that were seen along a line, beyond them along the outermost one."""
        if size in self._means:
            return self._means[size]
        sizes = sorted(self._means)
        if len(sizes) == 1:
            return self._means[sizes[0]] * size / sizes[0]
        above = next((place for place, seen in enumerate(sizes) if seen > size), len(sizes) - 1)
        low, high = sizes[max(above, 1) - 1], sizes[max(above, 1)]
        slope = (self._means[high] - self._means[low]) / (high - low)
        return max(self._means[low] + slope * (size - low), min(self._means.values()) / max(sizes))


def delayed(arrivals: Sequence[float], delays: Sequence[float], seed: int = 0) -> list[tuple[float, int]]:
    """When each arrival joins the queue after a delay drawn from `delays` (decoding), with its number, in the order
    of joining."""
    chosen = random.Random(seed)
    joined = ((moment + (chosen.choice(delays) if delays else 0.0), i) for i, moment in enumerate(arrivals))
    return sorted(joined)


def simulate_with_delays(
    arrivals: Sequence[float],
    delays: Sequence[float],
    num_replicas: int,
    max_batch_size: int,
    service_time: ServiceTime,
    time_alone: ServiceTime | None = None,
) -> list[float]:
    """As `simulate`, but each arrival first takes one of `delays`, side by side; latency counts from the arrival."""
    joined = delayed(arrivals, delays)
    moments = [moment for moment, _ in joined]
    waits = simulate(moments, num_replicas, max_batch_size, service_time, time_alone)
    return [moment - arrivals[i] + wait for (moment, i), wait in zip(joined, waits, strict=True)]
