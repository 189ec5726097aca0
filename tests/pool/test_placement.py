from __future__ import annotations

import pytest

from pool.core_budget import CoreBudget
from pool.placement import place


def test_on_the_cpu_two_replicas_share_the_cores_without_overlap() -> None:
    first, second = place(["cpu"], None, CoreBudget.of([0, 1, 2, 3, 5]))
    assert (first.cores, second.cores) == ((0, 1), (2, 3, 5))
    assert (first.num_threads, second.num_threads) == (2, 3)
    assert first.environment == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    assert (first.device, first.label) == ("cpu", "cpu")


def test_one_core_gets_one_replica() -> None:
    (only,) = place(["cpu"], None, CoreBudget.of([3]))
    assert only.cores == (3,)


def test_every_gpu_gets_one_replica_that_sees_only_its_own() -> None:
    placements = place(["cuda:0", "cuda:2"], None, CoreBudget.of(range(8)))
    assert [p.device for p in placements] == ["cuda:0", "cuda:0"]
    assert [p.environment["CUDA_VISIBLE_DEVICES"] for p in placements] == ["0", "2"]
    assert [p.label for p in placements] == ["cuda:0", "cuda:2"]
    assert [p.cores for p in placements] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_number_of_replicas_is_per_gpu() -> None:
    assert [p.label for p in place(["cuda:0", "cuda:1"], 2, CoreBudget.of(range(4)))] == [
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cuda:1",
    ]


def test_more_replicas_than_cores_are_dealt_round() -> None:
    assert [p.cores for p in place(["cpu"], 5, CoreBudget.of([0, 1]))] == [(0,), (1,), (0,), (1,), (0,)]


def test_threads_can_be_set() -> None:
    assert [p.num_threads for p in place(["cpu"], 2, CoreBudget.of(range(4)), num_threads=3)] == [3, 3]


@pytest.mark.parametrize(
    ("devices", "num_replicas", "cores", "num_threads"),
    [([], 1, [0], 1), (["cpu"], 1, [], 1), (["cpu"], 0, [0], 1), (["cpu"], 1, [0], 0)],
)
def test_nonsense_is_refused(
    devices: list[str], num_replicas: int, cores: list[int], num_threads: int
) -> None:
    with pytest.raises(ValueError, match=r"device|counted"):
        place(devices, num_replicas, CoreBudget.of(cores), num_threads)


def test_a_count_without_numbers_is_shared_out_alike_and_nobody_is_pinned() -> None:
    for devices, num_replicas in ((["cpu"], None), (["cpu"], 8), (["cuda:0", "cuda:1"], None)):
        free = place(devices, num_replicas, CoreBudget(5))
        pinned = place(devices, num_replicas, CoreBudget.of(range(5)))
        assert [p.num_threads for p in free] == [p.num_threads for p in pinned]
        assert [p.environment for p in free] == [p.environment for p in pinned]
        assert [p.all_cores.num_cores for p in free] == [p.all_cores.num_cores for p in pinned]
        assert {(p.cores, p.all_cores.numbers) for p in free} == {((), ())}


def test_on_the_cpu_each_replica_is_told_of_all_cores() -> None:
    assert {p.all_cores for p in place(["cpu"], 2, CoreBudget.of([1, 3]))} == {CoreBudget(2, (1, 3))}
