"""Pools as the doctor makes them, for settings on a machine of a test's choice."""

from __future__ import annotations

from typing import Any

from pool import Pool
from server.device_plan import DevicePlan
from server.launch import Launching
from server.settings import Settings
from server.table import Known, known_models


def settings_of(**chosen: Any) -> Settings:
    return Settings(**chosen)


def pools_of(settings: Settings, num_gpus: int = 0) -> dict[str, tuple[Known, Pool]]:
    """Of the models loaded at start."""
    launching = Launching(settings, 2, DevicePlan(settings, num_gpus))
    known = known_models(settings)
    return {name: (each, launching.make_pool(each)) for name, each in known.items() if each.loads_at_start}
