"""Reading the settings from all their places, and saying what is wrong with them in one line each."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from server.settings import DEFAULT_CONFIG, ENV_PREFIX, Settings

SECRET_ENDINGS = ("key", "keys", "token", "tokens", "password", "secret")
"""Of names whose values are never shown, the known and the mistaken ones."""


class SettingsError(Exception):
    """The engine was not started because of its settings; `lines` say which and what is allowed."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def load_settings(command_line: Mapping[str, Any] | None = None) -> Settings:
    """Settings of this process; `command_line` holds field names and texts. Raises SettingsError."""
    given = dict(command_line or {})
    if unknown := _unknown_variables():
        raise SettingsError(unknown)
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given)) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{_config_name(given)} is not valid TOML: {error}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{_config_name(given)} cannot be read: {error}"]) from None


def environment() -> dict[str, str]:
    """A copy of this process's variables, for `doctor`, which looks at those of others as well."""
    return dict(os.environ)


def web_concurrency() -> int:
    """How many worker processes uvicorn or gunicorn was told to run by their own variable; 1 without it."""
    text = os.environ.get("WEB_CONCURRENCY", "")
    return int(text) if text.isdigit() else 1


def variable_names(name: str, field: FieldInfo) -> list[str]:
    """The environment variables that set one field, the usual one first."""
    alias = field.validation_alias
    if alias is None:
        return [ENV_PREFIX + name.upper()]
    choices = getattr(alias, "choices", [alias])
    return [str(choice) for choice in choices if str(choice).isupper()]


def _unknown_variables() -> list[str]:
    known = {
        variable for name, field in Settings.model_fields.items() for variable in variable_names(name, field)
    }
    return [
        f"environment {name}={_shown(name, os.environ[name])}: unknown setting{_suggest(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX) and name not in known
    ]


def _explain(error: ValidationError, given: Mapping[str, Any]) -> list[str]:
    """One line per wrong value: its name, where it came from, what it was, what is allowed."""
    reasons: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False):
        path = _path(problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _known_names(path)
            message = f"unknown setting{_suggest(path.rpartition('.')[2], known)}"
        where = (
            f"{path} = {_shown(path, problem['input'])} ({source_of(path, given)})" if path else "settings"
        )
        reasons.setdefault(where, []).append(message)
    return [f"{where}: {' or '.join(messages)}" for where, messages in reasons.items()]


def _shown(name: str, value: object) -> str:
    return "***" if name.lower().endswith(SECRET_ENDINGS) else f"{value!r:.200}"


def _path(location: tuple[int | str, ...]) -> str:
    """``models.NAME.imgsz``: without the branches of a union that pydantic puts behind a field's name."""
    if location and location[0] == "models":
        return ".".join(map(str, location[:3]))
    return str(location[0]).lower() if location else ""


def _known_names(path: str) -> set[str]:
    if not path.startswith("models."):
        return set(Settings.model_fields)
    from server.model_settings import ModelSettings

    return set(ModelSettings.model_fields)


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def source_of(path: str, given: Mapping[str, Any]) -> str:
    """Where the value of a field (``port``, ``models.NAME.imgsz``) came from; `given` is the command line's."""
    name = path.split(".")[0]
    if name in given:
        return f"command line --{name.replace('_', '-')}"
    field = Settings.model_fields.get(name)
    for variable in variable_names(name, field) if field else ():
        if variable in os.environ:
            return f"environment {variable}"
    return _config_name(given)


def _config_name(given: Mapping[str, Any]) -> str:
    return str(given.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG") or DEFAULT_CONFIG)
