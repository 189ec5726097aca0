"""The settings that are not the default, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.addresses import without_secrets
from server.doctor.finding import Finding, ok
from server.settings import Settings
from server.settings_load import SECRET_ENDINGS, source_of

LONG = 200


def check_chosen(settings: Settings, given: Mapping[str, Any]) -> list[Finding]:
    """One line each; `given` is the command line's."""
    findings = [
        ok("setting", f"{name} = {_shown(name, getattr(settings, name))} ({source_of(name, given)})")
        for name, field in Settings.model_fields.items()
        if getattr(settings, name) != field.get_default(call_default_factory=True)
    ]
    return findings or [ok("setting", "every setting has its default")]


def _shown(name: str, value: object) -> str:
    if name.endswith(SECRET_ENDINGS):
        return "***"
    if name == "models" and isinstance(value, Mapping):
        return ", ".join(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    text = repr(value) if value == "" else str(value).lower() if isinstance(value, bool) else str(value)
    shown = without_secrets(text)  # before it is cut: half an address does not look like one
    return shown if isinstance(value, Path) else shown[:LONG]
