"""Which replica runs where: devices and disjoint sets of cores. Pure arithmetic, front process."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


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
    all_cores: tuple[int, ...] = ()
    """On the CPU the cores of all replicas, for a worker that runs while the others rest."""


def usable_cores(cpu_max: Path = CPU_MAX) -> tuple[int, ...]:
    """Core numbers this process may use: its affinity, cut to the cgroup's CPU quota (rounded up, at least 1).

    Under a quota the kernel throttles whoever uses more cores than it pays for, which costs more than it gives.
    """
    cores = sorted(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
    except OSError:
        return tuple(cores)
    if quota != "max":
        cores = cores[: max(1, math.ceil(int(quota) / int(period)))]
    return tuple(cores)


def place(
    devices: Sequence[str], num_replicas: int | None, cores: Sequence[int], num_threads: int | None = None
) -> tuple[Placement, ...]:
    """Spread `num_replicas` (per GPU, or in all on the CPU) over `devices` and split `cores` among them.

    `devices` are ``cpu`` or ``cuda:<index or UUID as CUDA_VISIBLE_DEVICES takes it>``. Without a number: one
    replica per GPU; on the CPU two (so that one can die) where there are two cores or more. Cores are disjoint
    as long as there are enough; with more replicas than cores they are dealt round. `num_threads` overrides the
    threads per replica. Raises ValueError without devices or cores or for a number below 1.
    """
    if not devices or not cores:
        raise ValueError("placement needs at least one device and one core")
    if (num_replicas is not None and num_replicas < 1) or (num_threads is not None and num_threads < 1):
        raise ValueError("replicas and threads are counted from 1")
    on_gpus = all(device != "cpu" for device in devices)
    if num_replicas is None:
        num_replicas = 1 if on_gpus else min(2, len(cores))
    spots = [device for device in devices for _ in range(num_replicas)]
    shares = _split(cores, len(spots))
    return tuple(
        _placement(device, share, num_threads or len(share), tuple(cores))
        for device, share in zip(spots, shares, strict=True)
    )


def _split(cores: Sequence[int], num_parts: int) -> list[tuple[int, ...]]:
    if num_parts >= len(cores):
        return [(cores[i % len(cores)],) for i in range(num_parts)]
    bounds = [i * len(cores) // num_parts for i in range(num_parts + 1)]
    return [tuple(cores[a:b]) for a, b in itertools.pairwise(bounds)]


def _placement(
    device: str, cores: tuple[int, ...], num_threads: int, all_cores: tuple[int, ...]
) -> Placement:
    environment = {"OMP_NUM_THREADS": str(num_threads)}
    if device == "cpu":
        return Placement(
            "cpu", cores, num_threads, {**environment, "CUDA_VISIBLE_DEVICES": ""}, "cpu", all_cores
        )
    environment["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
    return Placement("cuda:0", cores, num_threads, environment, device)
