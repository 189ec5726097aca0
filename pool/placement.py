"""Which replica runs where: devices and disjoint sets of cores. Pure arithmetic, front process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pool.core_budget import CoreBudget

NO_CORES = CoreBudget(0)


@dataclass(frozen=True, slots=True)
class Placement:
    """One replica's place. An empty `cores` leaves the process unpinned."""

    device: str = "cpu"
    """Torch device string as the worker sees it; a GPU's worker sees only its own, as ``cuda:0``."""
    cores: tuple[int, ...] = ()
    num_threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    label: str = "cpu"
    """The device as an operator knows it, for instance ``cuda:3``."""
    all_cores: CoreBudget = NO_CORES
    """On the CPU those of all replicas, for a worker that runs while the others rest."""


def place(
    devices: Sequence[str], num_replicas: int | None, cores: CoreBudget, num_threads: int | None = None
) -> tuple[Placement, ...]:
    """Spread `num_replicas` (per GPU, or in all on the CPU) over `devices` and split `cores` among them.

    `devices` are ``cpu`` or ``cuda:<index or UUID as CUDA_VISIBLE_DEVICES takes it>``. Without a number: one
    replica per GPU; on the CPU two (so that one can die) where there are two cores or more. Cores are disjoint
    as long as there are enough; with more replicas than cores they are dealt round. A mere count of cores is shared
    out alike, and nobody is pinned. `num_threads` overrides the threads per replica. Raises ValueError without devices
    or cores or for a number below 1.
    """
    if not devices or cores.num_cores < 1:
        raise ValueError("placement needs at least one device and one core")
    if (num_replicas is not None and num_replicas < 1) or (num_threads is not None and num_threads < 1):
        raise ValueError("replicas and threads are counted from 1")
    on_gpus = all(device != "cpu" for device in devices)
    if num_replicas is None:
        num_replicas = 1 if on_gpus else min(2, cores.num_cores)
    spots = [device for device in devices for _ in range(num_replicas)]
    shares = _split(cores.numbers or range(cores.num_cores), len(spots))
    return tuple(
        _placement(device, share if cores.numbers else (), num_threads or len(share), cores)
        for device, share in zip(spots, shares, strict=True)
    )


def _split(cores: Sequence[int], num_parts: int) -> list[tuple[int, ...]]:
    if num_parts >= len(cores):
        return [(cores[i % len(cores)],) for i in range(num_parts)]
    bounds = [i * len(cores) // num_parts for i in range(num_parts + 1)]
    return [tuple(cores[a:b]) for a, b in itertools.pairwise(bounds)]


def _placement(device: str, cores: tuple[int, ...], num_threads: int, all_cores: CoreBudget) -> Placement:
    environment = {"OMP_NUM_THREADS": str(num_threads)}
    if device == "cpu":
        return Placement(
            "cpu", cores, num_threads, {**environment, "CUDA_VISIBLE_DEVICES": ""}, "cpu", all_cores
        )
    environment["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
    return Placement("cuda:0", cores, num_threads, environment, device)
