"""The simulated queue against what is known of queues."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from bench.load import arrivals
from bench.queue_simulation import MeasuredServiceTimes, simulate, simulate_with_delays


def _poisson(rate: float, count: int) -> list[float]:
    return list(islice(arrivals(rate, 0.0, seed=7), count))


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.8])
def test_constant_service_waits_as_long_as_pollaczek_and_khinchine_say(load: float) -> None:
    latencies = simulate(_poisson(load, 60_000), 1, 1, lambda size: 1.0)
    waiting = sum(latencies) / len(latencies) - 1.0
    assert waiting == pytest.approx(load / (2 * (1 - load)), rel=0.15)


def test_exponential_service_waits_twice_as_long() -> None:
    draw = random.Random(3)
    latencies = simulate(_poisson(0.6, 60_000), 1, 1, lambda size: draw.expovariate(1.0))
    assert sum(latencies) / len(latencies) == pytest.approx(1 / (1 - 0.6), rel=0.15)


def test_two_replicas_wait_as_erlang_says() -> None:
    draw = random.Random(4)
    latencies = simulate(_poisson(1.2, 60_000), 2, 1, lambda size: draw.expovariate(1.0))
    load = 0.6
    assert sum(latencies) / len(latencies) == pytest.approx(1 / (1 - load**2), rel=0.15)


def test_what_waits_goes_together_up_to_the_largest_batch() -> None:
    sizes = []

    def service(size: int) -> float:
        sizes.append(size)
        return 1.0

    assert simulate([0.0, 0.1, 0.2, 0.3, 0.4], 1, 3, service) == pytest.approx([1.0, 1.9, 1.8, 1.7, 2.6])
    assert sizes == [1, 3, 1]


def test_nobody_waits_where_a_replica_is_free() -> None:
    assert simulate([0.0, 0.1, 5.0], 2, 8, lambda size: 1.0) == pytest.approx([1.0, 1.0, 1.0])


def test_a_batch_size_that_was_not_measured_lies_on_the_line_of_those_that_were() -> None:
    times = MeasuredServiceTimes({1: [0.1], 2: [0.15], 4: [0.25]})
    assert times(2) == 0.15
    assert times(3) == pytest.approx(0.2)
    assert times(8) == pytest.approx(0.45)
    assert MeasuredServiceTimes({2: [0.1]})(4) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no service times"):
        MeasuredServiceTimes({1: []})


def test_decoding_delays_side_by_side_and_counts() -> None:
    latencies = simulate_with_delays([0.0, 0.0], [0.5], 1, 8, lambda size: 1.0)
    assert latencies == pytest.approx([1.5, 1.5])
    assert simulate_with_delays([0.0, 3.0], [], 1, 8, lambda size: 1.0) == pytest.approx([1.0, 1.0])
