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
MAX_EXCEPTION = 20_000
"""Characters of a traceback; the middle of a longer one is left out."""

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
    """For people: `moment [level] event  name=value`, an exception below it, each of its lines indented."""

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
        below = (f"\n  {_escaped(part)}" for part in exception.split("\n")) if exception else ()
        return line + "".join(below)


class Quota(logging.Filter):
    """Of a logger's warnings and errors at most so many each second; the next that passes says in `num_dropped`
    how many did not."""

    def __init__(self, lines_per_second: int = 10) -> None:
        super().__init__()
        self._lines_per_second = lines_per_second
        self._num_passed = self._num_dropped = 0
        self._second = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING:
            return True
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._num_passed = second, 0
        if self._num_passed >= self._lines_per_second:
            self._num_dropped += 1
            return False
        self._num_passed += 1
        if self._num_dropped:
            record.num_dropped, self._num_dropped = self._num_dropped, 0
        return True


def configure_log(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send every log line of this process to standard error. `auto` means console on a terminal."""
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(ConsoleLines(sys.stderr.isatty()) if is_console else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(level.upper())
    for name in (
        "uvicorn.error",
        "asyncio",
    ):  # a line for each connection that brings garbage, or that finds no room
        logging.getLogger(name).filters[:] = [Quota()]
    for name in ("httpcore", "hpack", "PIL"):  # they log every step of a request at debug
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a warning for each form that is none
    logging.captureWarnings(True)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in _OWN_FIELDS}


def _encoded(value: Any) -> str:
    """As JSON without a sign that a terminal obeys or a reader takes for the end of a line: orjson writes U+0085,
    U+2028 and those that turn the direction of text as they are. Raises TypeError for what cannot be said there."""
    return _escaped(orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode())


def _escaped(text: str) -> str:
    """Every sign that cannot be printed as JSON's escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escape_of(sign) for sign in text)


def _escape_of(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


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
    text = formatter.formatException(record.exc_info) if record.exc_info else ""
    if len(text) <= MAX_EXCEPTION:
        return text
    return f"{text[: MAX_EXCEPTION // 2]}\n[...]\n{text[-MAX_EXCEPTION // 2 :]}"


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _visible(value: object) -> str:
    """As it is if nobody can take it for something else."""
    text = value if isinstance(value, str) else repr(value)
    return text if text.isprintable() and " " not in text and text else repr(text)
