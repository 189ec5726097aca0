"""What the machine says of the server: memory, versions, GPUs, as metric families."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from pool import Pool
from pool.memory import resident_memory
from server.gpu import GpuSample
from server.model_metrics import gauge
from server.room import Room

VERSIONS = {
    "version": "model-inference-engine",
    "torch": "torch",
    "ultralytics": "ultralytics-opencv-headless",
    "transformers": "transformers",
    "openvino": "openvino",
}
"""Distributions whose versions are told; read from their metadata, nothing is imported."""
_ULTRALYTICS = "ultralytics"
"""Its usual name, where somebody has installed that one."""


@dataclass(frozen=True, slots=True)
class WorkerAt:
    """A worker that there is, and where."""

    model_id: str
    replica: str
    device: str
    pid: int


def workers_of(pools: Iterable[Pool]) -> list[WorkerAt]:
    """On the event loop. Of two pools of one model, and of two workers at one position, the later is told."""
    return [
        WorkerAt(pool.name, str(replica.index), replica.placement.label, replica.pid)
        for pool in pools
        for replica in pool.replicas
        if replica.pid is not None
    ]


def worker_families(workers: Sequence[WorkerAt]) -> Iterator[Metric]:
    """Reads one small file of /proc for each."""
    sizes = {(each.model_id, each.replica, each.device): resident_memory(each.pid) for each in workers}
    yield gauge(
        "engine_worker_memory_bytes",
        "Memory of a worker that is its own: what it shares with others is not counted.",
        ["model", "replica", "device"],
        sizes.items(),
    )


def room_families(room: Room) -> Iterator[Metric]:
    """The account of memory, as of its last look."""
    values = {
        "engine_memory_budget_bytes": ("What the engine may take, settings or nine tenths of it all.", room.budget),
        "engine_memory_taken_bytes": ("What it holds or has promised to models that load.", room.taken),
        "engine_memory_free_bytes": ("What may still be promised; negative where models grew.", room.free),
    }  # fmt: skip
    for name, (meaning, value) in values.items():
        yield gauge(name, meaning, [], [([], value)])


def gpu_families(samples: Sequence[GpuSample]) -> Iterator[Metric]:
    """Without a sample where there is no GPU, or where it does not say."""
    values: dict[str, tuple[str, list[float | None]]] = {
        "engine_gpu_up": ("1 if the GPU's driver answers.", [each.is_up for each in samples]),
        "engine_gpu_memory_bytes": ("Memory of the GPU.", [each.memory for each in samples]),
        "engine_gpu_memory_used_bytes": (
            "Memory of the GPU that is in use, by whomever.",
            [each.memory_used for each in samples],
        ),
        "engine_gpu_utilisation_ratio": (
            "Share of the last moment in which a kernel ran, 0 to 1.",
            [each.utilisation for each in samples],
        ),
    }
    for name, (meaning, told) in values.items():
        pairs = zip(samples, told, strict=True)
        yield gauge(
            name, meaning, ["device"], (([each.device], value) for each, value in pairs if value is not None)
        )


def build_family() -> Metric:
    """One sample, always 1: what is read are its labels."""
    versions = {"python": platform.python_version(), **_versions()}
    return gauge(
        "engine_build_info",
        "Versions of the engine and its libraries; always 1.",
        list(versions),
        [(list(versions.values()), 1.0)],
    )


@functools.cache
def _versions() -> dict[str, str]:
    return {label: _version(name) for label, name in VERSIONS.items()}


def _version(name: str) -> str:
    """Empty where it is not installed."""
    for each in (name, _ULTRALYTICS) if name.startswith(_ULTRALYTICS) else (name,):
        try:
            return importlib.metadata.version(each)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def front_families() -> Iterator[Metric]:
    """Memory, processor time, descriptors and start of this process, under the names that every exporter uses."""
    return iter(ProcessCollector(registry=None).collect())
