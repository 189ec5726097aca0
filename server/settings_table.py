"""The settings as text, from their one declaration: the README's table and the command line's flags."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from server.settings import Settings
from server.settings_groups import GROUPS
from server.settings_load import variable_names

_MEBIBYTE = 2**20


HEAD = "| in engine.toml | command line | environment | default | meaning |\n|---|---|---|---|---|\n"


def settings_table() -> str:
    """The settings as Markdown, a table with a heading for each group."""
    return "\n".join(f"**{title}**\n\n{HEAD}{''.join(map(_row, names))}" for title, names in GROUPS.items())


def _row(name: str) -> str:
    field = Settings.model_fields[name]
    toml = "" if name == "config" else f"`{name}`"
    variable = f"`{variable_names(name, field)[0]}`"
    return f"| {toml} | `{flag(name)}` | {variable} | {_default(field)} | {field.description} |\n"


def flag(name: str) -> str:
    """A field's flag, ``--kebab-case``."""
    return "--" + name.replace("_", "-")


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        return f"`{', '.join(map(str, value))}`" if value else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= _MEBIBYTE and value % _MEBIBYTE == 0:
        return f"`{value}` ({value // _MEBIBYTE} MiB)"
    return f"`{value}`"
