"""What the way of sharing requests among engines does to their latency: a simulated queue, no server.

Arrivals are Poisson; an engine has replicas that each take one request at a time for a fixed time, first come first
served. Sharing: ``random`` (a new connection each, through a Kubernetes Service), ``turns`` (round robin) or ``least``
(to the engine with the fewest under way).
"""

from __future__ import annotations

import heapq
import math
import random

WAYS = ("random", "turns", "least")


def latencies(
    way: str,
    *,
    num_engines: int,
    num_replicas: int,
    service: float,
    utilisation: float,
    num_requests: int,
    seed: int = 0,
) -> list[float]:
    """Seconds that each request takes, in order of arrival. Raises ValueError for a way that is none."""
    if way not in WAYS:
        raise ValueError(f"one of {', '.join(WAYS)}")
    chosen = random.Random(seed)
    rate = utilisation * num_engines * num_replicas / service
    free_at = [[0.0] * num_replicas for _ in range(num_engines)]
    under_way: list[list[float]] = [[] for _ in range(num_engines)]
    now, taken = 0.0, []
    for i in range(num_requests):
        now += chosen.expovariate(rate)
        place = _choose(way, i, now, under_way, chosen)
        done = max(heapq.heappop(free_at[place]), now) + service
        heapq.heappush(free_at[place], done)
        heapq.heappush(under_way[place], done)
        taken.append(done - now)
    return taken


def _choose(way: str, i: int, now: float, under_way: list[list[float]], chosen: random.Random) -> int:
    if way == "random":
        return chosen.randrange(len(under_way))
    if way == "turns":
        return i % len(under_way)
    for ends in under_way:
        while ends and ends[0] <= now:
            heapq.heappop(ends)
    fewest = min(len(ends) for ends in under_way)
    return chosen.choice([place for place, ends in enumerate(under_way) if len(ends) == fewest])


def num_overfull(num_connections: int, num_engines: int, utilisation: float) -> float:
    """Engines to be expected with more than their peak, where each connection is kept, goes to a random engine and
    brings the same rate: the tail of a binomial distribution."""
    share = 1 / num_engines
    num_full = math.floor(num_connections / num_engines / utilisation)
    return num_engines * sum(
        math.comb(num_connections, num) * share**num * (1 - share) ** (num_connections - num)
        for num in range(num_full + 1, num_connections + 1)
    )


def quantile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
