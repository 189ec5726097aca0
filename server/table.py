"""The models that can be asked for: the catalogue and the operator's own, with what the settings say of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from models.catalogue import CATALOGUE, CatalogueEntry, operator_entry
from models.spec import Family, Task
from server.model_settings import ModelSettings
from server.settings import Settings
from server.settings_load import SettingsError


@dataclass(frozen=True, slots=True)
class Known:
    """One model that a request may name."""

    entry: CatalogueEntry
    is_listed: bool
    """Named in the settings."""
    loads_at_start: bool
    replicas: Literal["auto"] | int
    """Of each GPU, or in all on the CPU."""
    task: Task | None
    """None: only the weights know, so the first worker tells."""


def known_models(settings: Settings, catalogue: Mapping[str, CatalogueEntry] = CATALOGUE) -> dict[str, Known]:
    """Everything by name. Raises SettingsError for models that cannot be."""
    problems = [
        f"models.{name}: weights are missing, and the catalogue has no model of this name"
        for name, table in settings.models.items()
        if table.weights is None and name not in catalogue
    ]
    problems += [
        f"models.{name}: end2end chooses a head of a YOLO network; {name} is none"
        for name, table in settings.models.items()
        if table.end2end is not None and _family(name, table, catalogue) == "blip"
    ]
    at_start = settings.load_at_start
    problems += [
        f"load_at_start: there is no model {name!r}; known are {', '.join(sorted({*catalogue, *settings.models}))}"
        for name in at_start or ()
        if name not in catalogue and name not in settings.models
    ]
    if problems:
        raise SettingsError(problems)
    names = [*catalogue, *(name for name in settings.models if name not in catalogue)]
    known = {name: _known(name, settings, catalogue) for name in names}
    num_at_start = sum(model.loads_at_start for model in known.values())
    if num_at_start > settings.max_loaded_models:
        raise SettingsError(
            [f"max_loaded_models = {settings.max_loaded_models}: {num_at_start} models load at start"]
        )
    return known


def _known(name: str, settings: Settings, catalogue: Mapping[str, CatalogueEntry]) -> Known:
    table = settings.models.get(name)
    entry = _entry(name, table, catalogue)
    if settings.load_at_start is not None:
        loads_at_start = name in settings.load_at_start
    else:
        loads_at_start = entry.load_at_start
    if table is not None and table.load_at_start is not None:
        loads_at_start = table.load_at_start
    return Known(
        entry=entry,
        is_listed=table is not None or loads_at_start,
        loads_at_start=loads_at_start,
        replicas=_replicas(table, settings),
        task=entry.task,
    )


def _replicas(table: ModelSettings | None, settings: Settings) -> Literal["auto"] | int:
    if table is None or table.replicas is None:
        return settings.replicas
    return 1 if isinstance(table.replicas, dict) else table.replicas


def _family(name: str, table: ModelSettings, catalogue: Mapping[str, CatalogueEntry]) -> Family:
    if table.weights is None and name in catalogue:
        return catalogue[name].family
    return table.family or ("blip" if table.task in ("vqa", "caption") else "yolo")


def _entry(name: str, table: ModelSettings | None, catalogue: Mapping[str, CatalogueEntry]) -> CatalogueEntry:
    if table is None:
        return catalogue[name]
    if table.weights is None:
        chosen = table.model_dump(
            include={"task", "imgsz", "end2end", "sha256", "runtime", "precision"}, exclude_none=True
        )
        return replace(catalogue[name], **chosen)
    family = _family(name, table, catalogue)
    entry = operator_entry(
        name,
        table.weights,
        sha256=table.sha256,
        family=family,
        task=table.task,
        imgsz=table.imgsz,
        end2end=table.end2end,
    )
    return replace(
        entry,
        description=table.description or entry.description,
        runtime=table.runtime,
        precision=table.precision,
    )
