"""Reading the settings from all their places, and saying what is wrong with them in one line each."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from server.addresses import without_secrets
from server.model_settings import ModelSettings
from server.settings import DEFAULT_CONFIG, ENV_PREFIX, Settings
from server.settings_allowed import allowed

EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again as it is cannot help."""
API_KEY = f"{ENV_PREFIX}API_KEY"
"""No setting: the key with which `inference-engine predict` asks another server."""
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


def api_key() -> str | None:
    """The key to ask another server with, which a command line would show to everybody on this machine."""
    return os.environ.get(API_KEY) or None


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
    } | {API_KEY}
    return [
        f"environment {name}={_shown(name, os.environ[name])}: unknown setting{_suggest(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX) and name not in known
    ]


def unknown_flags(texts: Sequence[str]) -> list[str]:
    """A line for each argument of the command line that is no setting's flag and no value of one."""
    known = {"--" + name.replace("_", "-") for name in Settings.model_fields}
    names = [text.partition("=")[0] for text in texts]
    flags = [name for name in names if name.startswith("-")]
    return [f"command line {name}: unknown setting{_suggest(name, known)}" for name in flags or names[:1]]


def _explain(error: ValidationError, given: Mapping[str, Any]) -> list[str]:
    """One line per wrong value: its name, what it was, where it came from, what is allowed."""
    lines: dict[str, str] = {}
    for problem in error.errors(include_url=False):
        path, value = _path(problem["loc"]), problem["input"]
        message = problem["msg"].removeprefix("Value error, ")
        if not path:
            lines[message] = f"{_named(message, value, given)}: {message}"
            continue
        if problem["type"] == "extra_forbidden":
            message = f"unknown setting{_suggest(path.rpartition('.')[2], _known_fields(path))}"
        elif problem["type"] != "value_error":
            message = f"must be {_allowed(path)}"
        lines.setdefault(path, f"{path} = {_shown(path, value)} ({source_of(path, given)}): {message}")
    return list(lines.values())


def _named(message: str, values: object, given: Mapping[str, Any]) -> str:
    """The settings that a rule about several speaks of, as far as somebody set them."""
    chosen = values if isinstance(values, Mapping) else {}
    return ", ".join(
        f"{name} = {_shown(name, value)} ({source_of(name, given)})"
        for name, value in chosen.items()
        if re.search(rf"\b{re.escape(name)}\b", message)
    )


def _shown(name: str, value: object) -> str:
    return "***" if _is_secret(name) else f"{_masked(name, value)!r:.200}"


def _masked(name: str, value: object) -> object:
    """`value` without what may be secret in it, however deep."""
    if _is_secret(name):
        return "***"
    match value:
        case dict():
            return {key: _masked(str(key), inner) for key, inner in value.items()}
        case list():
            return [_masked("", inner) for inner in value]
        case str():
            return without_secrets(value)
    return value


def _is_secret(name: str) -> bool:
    return name.lower().endswith(SECRET_ENDINGS)


def _path(location: tuple[int | str, ...]) -> str:
    """``models.NAME.imgsz``: without the branches of a union that pydantic puts behind a field's name."""
    if location and location[0] == "models":
        return ".".join(map(str, location[:3]))
    return str(location[0]).lower() if location else ""


def _known_fields(path: str) -> Mapping[str, FieldInfo]:
    return ModelSettings.model_fields if path.count(".") == 2 else Settings.model_fields


def _allowed(path: str) -> str:
    """What the setting at a path may be; a whole model is a table."""
    if path.count(".") == 1:
        return f"a table of {', '.join(ModelSettings.model_fields)}"
    return allowed(_known_fields(path)[path.rpartition(".")[2]])


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else "; engine.example.toml shows all there are"


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
