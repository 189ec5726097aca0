"""What pools have counted, added up; no worker is started."""

from __future__ import annotations

from collections.abc import Mapping

from pool import Launcher, Placement, Pool
from server.model_metrics import model_families
from server.tally import Tally


def make_pool(name: str, num_replicas: int = 1, **counters: int) -> Pool:
    placements = [Placement(label=f"cuda:{index}") for index in range(num_replicas)]
    pool = Pool(name, "tests.server.fakes:load", {}, placements, Launcher())
    pool.counters.update(counters)
    return pool


def told(tally: Tally) -> Mapping[tuple[str, ...], float]:
    """By name and label values, these in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in model_families([], tally)
        for sample in family.samples
    }


def test_a_pool_that_ended_is_counted_once_however_often_its_end_is_told() -> None:
    tally = Tally()
    first, second = make_pool("m", replays=3), make_pool("m", replays=4)
    for pool in (first, second):
        tally.begin(pool)
    assert told(tally)["engine_replays_total", "m"] == 7
    for _ in range(2):
        tally.end(first)
    assert told(tally)["engine_replays_total", "m"] == 7
    second.counters["replays"] += 1
    tally.end(second)
    assert told(tally)["engine_replays_total", "m"] == 8
    assert ("engine_queue_length", "m") not in told(tally), "a gauge ends with its pool"


def test_only_the_first_word_on_how_a_load_ended_counts_and_of_a_reload_none() -> None:
    tally = Tally()
    loaded, reloaded = make_pool("m"), make_pool("m")
    for pool in (loaded, reloaded):
        tally.begin(pool)
    tally.await_load(loaded)
    tally.look()
    assert not tally.loads, "neither serves"
    tally.settle_load(loaded, "failed")
    for pool in (loaded, reloaded):
        tally.settle_load(pool, "given_up")
    assert tally.loads == {("m", "failed"): 1}


def test_deaths_are_told_by_reasons_of_a_closed_set() -> None:
    tally = Tally()
    codes = {f"deaths_exit_{code}": 1 for code in range(256)} | {
        f"deaths_signal_{n}": 1 for n in range(34, 64)
    }
    tally.begin(make_pool("m", deaths_sigsegv=2, recycled_old=5, **codes))
    found = {
        labels[2]: value for labels, value in told(tally).items() if labels[0] == "engine_worker_deaths_total"
    }
    assert (found["exit_other"], found["signal_other"], found["sigsegv"], found["hang"]) == (256, 30, 2, 0)
    assert len(found) < 12
    assert told(tally)["engine_workers_recycled_total", "m", "old"] == 5


def test_batches_are_a_histogram_whose_buckets_add_up() -> None:
    tally = Tally()
    for sizes in ({1: 5, 3: 2}, {3: 1, 100: 1}):
        pool = make_pool("m")
        pool.batch_sizes.update(sizes)
        tally.begin(pool)
    found = {
        labels[1]: value for labels, value in told(tally).items() if labels[0] == "engine_batch_size_bucket"
    }
    assert found == {"1.0": 5, "2.0": 5, "4.0": 8, "8.0": 8, "16.0": 8, "32.0": 8, "64.0": 8, "+Inf": 9}
    assert told(tally)["engine_batch_size_sum", "m"] == 5 + 9 + 100


def test_replicas_are_told_by_device_and_state_all_states_of_each() -> None:
    tally = Tally()
    tally.begin(make_pool("m", 2))
    found = {labels[1:]: value for labels, value in told(tally).items() if labels[0] == "engine_replicas"}
    assert len(found) == 2 * 7
    assert {labels for labels, value in found.items() if value} == {
        ("cuda:0", "m", "backoff"),
        ("cuda:1", "m", "backoff"),
    }
