"""``inference-engine pull`` and ``inference-engine models``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from models.errors import ModelError
from models.weights import resolve
from server.download_display import DownloadDisplay, open_display
from server.launch import factory_config, worker_environment
from server.models_list import print_models
from server.settings import Settings
from server.settings_load import SettingsError
from server.table import Known, known_models

EXIT_INTERRUPTED = 128 + signal.SIGINT


def pull(settings: Settings, names: Sequence[str]) -> int:
    """Bring the weights of `names` to this machine; the exit code: 0, 1 if one failed, 2 for an unknown name."""
    known = known_or_told(settings)
    if known is None:
        return 2
    if unknown := [name for name in names if name not in known]:
        print(
            f"inference-engine: no model {', '.join(unknown)}; known are {', '.join(known)}", file=sys.stderr
        )
        return 2
    os.environ.update(worker_environment(settings))  # before a library that reads it is imported
    failed = [name for name in dict.fromkeys(names) if not _pull_one(settings, known[name])]
    return 1 if failed else 0


def _pull_one(settings: Settings, known: Known) -> bool:
    name = known.entry.model_id
    display = open_display(name)
    before = signal.signal(signal.SIGINT, lambda *_: _leave(name, display))
    try:
        resolved = resolve(factory_config(settings, known.entry), display)
    except ModelError as error:
        display.close()
        print(f"inference-engine: {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return False
    finally:
        signal.signal(signal.SIGINT, before)
    display.close()
    print(f"{name}: {resolved.path} (sha256 {resolved.sha256})", flush=True)
    return True


def _leave(name: str, display: DownloadDisplay) -> NoReturn:
    """On Ctrl-C, at once: an exception would first wait for the library's threads to end their downloads."""
    display.close()
    print(
        f"inference-engine: {name}: interrupted; what has arrived is kept, the same command goes on from there",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_INTERRUPTED)


def list_models(settings: Settings) -> int:
    """Print one line per model that a request may name; the exit code."""
    known = known_or_told(settings)
    if known is None:
        return 2
    print_models(settings, known.values())
    return 0


def known_or_told(settings: Settings) -> dict[str, Known] | None:
    """All models by name; None where the settings are wrong, which standard error then says."""
    try:
        return known_models(settings)
    except SettingsError as error:
        for line in error.lines:
            print(f"inference-engine: {line}", file=sys.stderr)
        return None
