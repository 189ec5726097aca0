from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from server.log import configure_log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the whole process's: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == "", "standard output is for what a command prints"
    return captured.err.removesuffix("\n").split("\n")


def test_both_kinds_of_loggers_write_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    structlog.stdlib.get_logger("server.x").info("hello", number=1)
    logging.getLogger("pool.y").warning("count %d", 2, extra={"pid": 7})
    logging.getLogger("pool.y").debug("not this")
    ours, theirs = (json.loads(line) for line in lines(capsys))
    assert (ours["event"], ours["number"], ours["level"], ours["logger"]) == ("hello", 1, "info", "server.x")
    assert (theirs["event"], theirs["pid"], theirs["level"], theirs["logger"]) == (
        "count 2",
        7,
        "warning",
        "pool.y",
    )
    assert "timestamp" in ours and "timestamp" in theirs


def test_a_line_stays_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    structlog.stdlib.get_logger("x").info(
        "request", path="/a\r\n{\x1b[31m\u2028", other=object(), raw=b"\xff"
    )
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("y").exception("failed")
    first, second = (json.loads(line) for line in lines(capsys))
    assert first["path"] == "/a\r\n{\x1b[31m\u2028"
    assert "ValueError: line one\nline two" in second["exception"]


def test_the_terminal_twin_of_uvicorns_messages_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    logging.getLogger("uvicorn.error").info("Started [%d]", 1, extra={"color_message": "\x1b[36mStarted"})
    assert "color_message" not in json.loads(lines(capsys)[0])


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("console", "warning")
    logging.getLogger("x").info("not this")
    logging.getLogger("x").warning("hello", extra={"a": 1})
    (line,) = lines(capsys)
    assert "hello" in line and "a=1" in line and not line.startswith("{")


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("auto", "info")
    logging.getLogger("x").info("hello")
    assert json.loads(lines(capsys)[0])["event"] == "hello"
