"""Logs: structlog's lines and the standard library's (uvicorn, pool) leave the same way, one line per event."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor

MAX_TEXT = 256
"""Characters of one value that came from a client."""

_SHARED: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_log(log_format: Literal["auto", "json", "console"], level: str) -> None:
    """Send every log line of this process to standard error. `auto` means console on a terminal."""
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if is_console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_to_json)]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_colour_twin, *last],
    )
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [target]
    root.setLevel(level.upper())
    for name in ("httpcore", "hpack", "PIL"):  # they log every step of a request at debug
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _drop_colour_twin(logger: Any, method: str, event: EventDict) -> EventDict:
    """uvicorn sends each message a second time with terminal colours."""
    event.pop("color_message", None)
    return event


def _to_json(event: EventDict, **options: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()
