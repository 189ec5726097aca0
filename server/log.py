"""Logs: everybody's lines (ours, uvicorn's, the pool's) leave the same way, one line per event.

What belongs to an event is given as `extra`. One formatter of our own: structlog took a fifth of a request's time in
the event loop and a quarter of a second of every start.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Literal

import orjson

MAX_TEXT = 256
"""Characters of one value that came from a client."""

_OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "color_message",  # uvicorn sends each message a second time with terminal colours
}
_COLOURS = {"debug": 36, "info": 32, "warning": 33, "error": 31, "critical": 31}


class JsonLines(logging.Formatter):
    """One JSON object per event: its fields, then `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": _timestamp(record),
            **_fields_of(record),
        }
        if exception := _exception_of(self, record):
            line["exception"] = exception
        try:
            return _encoded(line)
        except TypeError:  # of its many reasons none is worth losing a line
            return _encoded({name: _sayable(value) for name, value in line.items()})


class ConsoleLines(logging.Formatter):
    """For people: `moment [level] event  name=value`, an exception below it."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        level = record.levelname.lower()
        padded = f"{level:<8}"
        if self._colours:
            padded = f"\x1b[{_COLOURS.get(level, 0)}m{padded}\x1b[0m"
        fields = "".join(f" {name}={_visible(value)}" for name, value in _fields_of(record).items())
        line = f"{_timestamp(record)} [{padded}] {_printable(record.getMessage())} [{record.name}]{fields}"
        exception = _exception_of(self, record)
        return f"{line}\n{exception}" if exception else line


def configure_log(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send every log line of this process to standard error. `auto` means console on a terminal."""
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(ConsoleLines(sys.stderr.isatty()) if is_console else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(level.upper())
    for name in ("httpcore", "hpack", "PIL"):  # they log every step of a request at debug
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _OWN_FIELDS}


def _encoded(value: Any) -> str:
    """As JSON. Raises TypeError for what cannot be said there."""
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _sayable(value: Any) -> Any:
    """`value`, or a text of it where JSON cannot say it: half characters (names of files that are not UTF-8), numbers
    beyond 64 bits, objects that contain themselves."""
    try:
        _encoded(value)
    except TypeError:
        text = value if isinstance(value, str) else repr(value)
        return text.encode("utf-8", "backslashreplace").decode()
    return value


def _timestamp(record: logging.LogRecord) -> str:
    """UTC in ISO 8601, to the microsecond."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.created % 1 * 1_000_000):06d}Z"


def _exception_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _visible(value: object) -> str:
    """As it is if nobody can take it for something else."""
    text = value if isinstance(value, str) else repr(value)
    return text if text.isprintable() and " " not in text and text else repr(text)
