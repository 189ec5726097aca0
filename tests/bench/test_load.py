"""The pure parts of the load generator."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from bench.load import Tally, arrivals, read_timing


def test_a_server_timing_header_gives_batch_size_and_seconds() -> None:
    header = 'decode;dur=10.5, queue;dur=0.25, infer;dur=50, total;dur=67.7, batch;desc="4"'
    size, stages = read_timing(header)
    assert size == 4
    assert stages == pytest.approx({"decode": 0.0105, "queue": 0.00025, "infer": 0.05, "total": 0.0677})


def test_arrivals_are_the_same_for_a_seed_and_come_at_the_rate() -> None:
    moments = list(islice(arrivals(50.0, 100.0, seed=1), 20_000))
    assert moments == list(islice(arrivals(50.0, 100.0, seed=1), 20_000))
    assert moments[0] == 100.0
    assert 20_000 / (moments[-1] - moments[0]) == pytest.approx(50.0, rel=0.03)
    gaps = [after - before for before, after in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05)  # as in a Poisson process


def test_the_rate_counts_what_was_completed_in_the_time() -> None:
    tally = Tally(latencies=[0.1, 0.3], num_completed=10, num_bytes=200)
    tally.batches = [(1, {"infer": 0.01}), (2, {"infer": 0.03})]
    figures = tally.figures(seconds=2.0)
    assert figures["per_second"] == 5.0
    assert figures["requests"] == 2
    assert figures["batch_sizes"] == {"1": 1, "2": 1}
    assert figures["mean_stage_milliseconds"] == {"infer": pytest.approx(20.0)}
    assert figures["mean_request_bytes"] == 100
