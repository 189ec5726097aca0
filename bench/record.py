"""What every result carries, so that a figure can be read a year later: commit, machine, versions, settings."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch",
    "ultralytics",
    "ultralytics-opencv-headless",
    "openvino",
    "transformers",
    "numpy",
    "pillow",
    "simplejpeg",
    "starlette",
    "uvicorn",
)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


def machine() -> dict[str, Any]:
    """Processor, its vector units, cores this process may use, memory in bytes, Python and package versions."""
    cpuinfo = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    fields = {name.strip(): value.strip() for name, value in cpuinfo.items()}
    flags = set(fields.get("flags", "").split())
    return {
        "processor": fields.get("model name", platform.machine()),
        "vector_units": [flag for flag in _FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def record(bench: str, settings: Mapping[str, Any], figures: Mapping[str, Any]) -> dict[str, Any]:
    """One result document."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "bench": bench,
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip() or None,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "machine": machine(),
        "load_average": list(os.getloadavg()),
        "settings": dict(settings),
        **figures,
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and max of `values`, by nearest rank. Raises ValueError when there are none."""
    if not values:
        raise ValueError("no measurements")
    ordered = sorted(values)
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    return {
        **{name: ordered[min(int(share * len(ordered)), len(ordered) - 1)] for name, share in ranks.items()},
        "max": ordered[-1],
    }
