"""What of a model's weights lies on this machine, without fetching or reading them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models import hub
from models.weights import PACKAGE, WeightsSource


def stored_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of the weights that a factory's config names, None if they are not (wholly) here."""
    path = place(config)
    if path is None:
        return None
    try:
        return sum(file.stat().st_size for file in files(path))
    except OSError:  # not there, or not readable: for a list both are the same
        return None


def place(config: Mapping[str, Any]) -> Path | None:
    """The file or folder where the weights are or will be; None for a repository that is not (wholly) in the cache."""
    source = WeightsSource.from_config(config)
    match source.source:
        case "hub":
            return hub.cached(hub.Repository(source.weights, source.revision, source.cache_dir))
        case "ultralytics":
            return None if source.cache_dir is None else source.cache_dir / source.weights
        case "package":
            return PACKAGE / source.weights
        case _:
            return Path(source.weights).expanduser()


def files(path: Path) -> list[Path]:
    """The file itself, or those of a folder; the hub's cache has links to them. Raises OSError."""
    return [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
