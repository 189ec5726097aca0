"""``inference-engine pull`` and ``inference-engine models``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from models.errors import ModelError
from models.weights import resolve
from server.launch import factory_config, worker_environment
from server.models_list import print_models
from server.settings import Settings
from server.settings_load import SettingsError
from server.table import Known, known_models


def pull(settings: Settings, names: Sequence[str]) -> int:
    """Bring the weights of `names` to this machine; the exit code: 0, 1 if one failed, 2 for an unknown name."""
    known = _known(settings)
    if known is None:
        return 2
    if unknown := [name for name in names if name not in known]:
        print(
            f"inference-engine: no model {', '.join(unknown)}; known are {', '.join(known)}", file=sys.stderr
        )
        return 2
    os.environ.update(worker_environment(settings))  # before a library that reads it is imported
    num_failed = 0
    for name in names:
        try:
            resolved = resolve(factory_config(settings, known[name].entry), _Progress(name))
        except ModelError as error:
            print(f"\rinference-engine: {error}", file=sys.stderr)
            num_failed += 1
        else:
            print(f"{name}: {resolved.path} (sha256 {resolved.sha256})")
    return 1 if num_failed else 0


def list_models(settings: Settings) -> int:
    """Print one line per model that a request may name; the exit code."""
    known = _known(settings)
    if known is None:
        return 2
    print_models(settings, known.values())
    return 0


def _known(settings: Settings) -> dict[str, Known] | None:
    try:
        return known_models(settings)
    except SettingsError as error:
        for line in error.lines:
            print(f"inference-engine: {line}", file=sys.stderr)
        return None


class _Progress:
    """Shows how far a download is, on a terminal only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, step: Mapping[str, Any]) -> None:
        done, total = step.get("done_bytes"), step.get("total_bytes")
        if done is not None and sys.stderr.isatty():
            of = f" of {total / 1e6:.0f}" if total else ""
            print(
                f"\r{self._name}: {done / 1e6:.0f}{of} MB", end="\n" if done == total else "", file=sys.stderr
            )
