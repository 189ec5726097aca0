"""Where the models that load at start will run, and why. `plan_lines` is the place to tell more of it."""

from __future__ import annotations

from collections.abc import Mapping

from pool import Placement, Pool
from server.doctor.finding import Finding, ok
from server.layouts import Layouts
from server.settings import Settings
from server.table import Known


def check_plan(
    settings: Settings, pools: Mapping[str, tuple[Known, Pool]], layouts: Layouts
) -> list[Finding]:
    """Lines for each pool, which has not been started."""
    if not pools:
        return [ok("plan", "no model loads at start")]
    return [
        ok("plan", f"{name}: {line}")
        for name, (known, pool) in pools.items()
        for line in plan_lines(
            settings, known, [replica.placement for replica in pool.replicas], layouts.measured(known)
        )
    ]


def plan_lines(
    settings: Settings, known: Known, placements: list[Placement], measured: Mapping[str, float]
) -> list[str]:
    """What is planned for one model, and why: one line or more. `measured` as in `Layouts`."""
    where = "; ".join(f"{each.label}, {_threads(each)}" for each in placements)
    count = f"{len(placements)} replica" + ("s" if len(placements) > 1 else "")
    return [f"{count} ({where}), because {_why(settings, known, placements, measured)}"]


def _threads(placement: Placement) -> str:
    threads = f"{placement.num_threads} thread" + ("s" if placement.num_threads > 1 else "")
    if not placement.cores:
        return f"{threads}, not pinned"
    cores = ",".join(map(str, placement.cores))
    return f"{threads} on {'cores' if len(placement.cores) > 1 else 'core'} {cores}"


def _why(settings: Settings, known: Known, placements: list[Placement], measured: Mapping[str, float]) -> str:
    on_gpu = placements[0].label != "cpu"
    if measured and not on_gpu and known.replicas == settings.threads == "auto":
        rates = ", ".join(f"{rate:g} with {width} each" for width, rate in measured.items())
        return f"images per second were measured by threads of a replica: {rates}"
    table = settings.models.get(known.entry.model_id)
    if table is not None and isinstance(table.replicas, dict):
        reason = f"models.{known.entry.model_id}.replicas says so"
    elif table is not None and table.device not in (None, "auto"):
        reason = f"models.{known.entry.model_id}.device = {table.device}"
        reason += "" if known.replicas == "auto" else f" and replicas = {known.replicas}"
    elif known.replicas != "auto":
        reason = f"replicas = {known.replicas}" + (" for each GPU" if on_gpu else "")
    elif on_gpu:
        reason = "replicas = auto is one for each GPU"
    elif len(placements) > 1:
        reason = "replicas = auto is two on the CPU, so that one serves while the other is replaced"
    else:
        reason = "replicas = auto is one where there is one core"
    if table is not None and table.dedicated:
        reason += ", dedicated to it"
    if settings.threads != "auto":
        reason += f", and threads = {settings.threads}"
    return reason
