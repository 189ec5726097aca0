from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from server.log import MAX_EXCEPTION, configure_log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the whole process's: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).filters.clear()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == "", "standard output is for what a command prints"
    return captured.err.removesuffix("\n").split("\n")


def test_both_kinds_of_loggers_write_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    logging.getLogger("server.x").info("hello", extra={"number": 1})
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
    fields = {"path": "/a\r\n{\x1b[31m\u2028", "other": object(), "raw": b"\xff"}
    logging.getLogger("x").info("request", extra=fields)
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("y").exception("failed")
    first, second = (json.loads(line) for line in lines(capsys))
    assert first["path"] == "/a\r\n{\x1b[31m\u2028"
    assert "ValueError: line one\nline two" in second["exception"]


def test_no_line_is_lost_for_what_json_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    round_trip: dict[str, object] = {}
    round_trip["self"] = round_trip
    fields = {"path": "/a\udcff", "large": 2**70, "keys": {(1, 2): 3}, "endless": round_trip, "number": 7}
    logging.getLogger("x").info("cannot read %s", "b\udcfe", extra=fields)
    (line,) = (json.loads(line) for line in lines(capsys))
    assert (line["event"], line["path"]) == ("cannot read b\\udcfe", "/a\\udcff")
    assert (line["large"], line["keys"], line["number"]) == (str(2**70), "{(1, 2): 3}", 7)


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


def test_nothing_in_a_console_line_can_be_taken_for_another_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("console", "info")
    logging.getLogger("x").info("one\ntwo", extra={"path": "/\r\n\x1b[31m", "empty": "", "two": "a b"})
    (line,) = lines(capsys)
    assert "'one\\ntwo'" in line and "path='/\\r\\n\\x1b[31m'" in line
    assert "empty=''" in line and "two='a b'" in line


def test_a_console_line_has_its_exception_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("console", "info")
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *others = lines(capsys)
    assert "failed" in first and others[-1] == "  ValueError: why"


def test_the_moment_is_utc_to_the_microsecond(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    before = time.time()
    logging.getLogger("x").info("hello")
    stamp = json.loads(lines(capsys)[0])["timestamp"]
    assert stamp.endswith("Z") and len(stamp) == len("2026-01-01T00:00:00.000000Z")
    assert before - 1e-3 <= datetime.fromisoformat(stamp).timestamp() <= time.time() + 1e-3


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("auto", "info")
    logging.getLogger("x").info("hello")
    assert json.loads(lines(capsys)[0])["event"] == "hello"


SIGNS = "\x7f\x85\x9b\u061c\u2028\u2029\u202e\u2066\u200b\ufeff\U000e0041"


def test_a_line_has_no_sign_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("json", "console"):
        configure_log(kind, "info")
        try:
            raise ValueError(f"why{SIGNS}\n2026-01-01T00:00:00Z [info    ] forged")
        except ValueError:
            logging.getLogger("x").exception(
                "one%s", SIGNS, extra={"path": f"/{SIGNS}", "half": "\ud800\x9b"}
            )
        first, *below = lines(capsys)
        assert all(line.isprintable() for line in (first, *below))
        if kind == "json":
            line = json.loads(first)
            assert (line["path"], line["event"], below) == (f"/{SIGNS}", f"one{SIGNS}", [])
        else:
            assert all(line.startswith("  ") for line in below), "what is below a line is none of its own"


def test_a_traceback_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log("json", "info")
    try:
        raise ValueError("begin" + "x" * 1_000_000 + "end")
    except ValueError:
        logging.getLogger("x").exception("failed")
    exception = json.loads(lines(capsys)[0])["exception"]
    assert len(exception) < MAX_EXCEPTION + 100
    assert "begin" in exception and exception.endswith("end")


@pytest.mark.parametrize("name", ["uvicorn.error", "asyncio"])
def test_garbage_on_connections_does_not_flood_the_log(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("server.log.time.monotonic", lambda: now)
    configure_log("json", "info")
    logger = logging.getLogger(name)
    for _ in range(1000):
        logger.warning("Invalid HTTP request received.")
    logger.info("Started")
    now += 1.0
    logger.error("again")
    logger.error("again")
    *garbage, started, again, last = (json.loads(line) for line in lines(capsys))
    assert len(garbage) == 10
    assert (started["event"], "num_dropped" in started) == ("Started", False)
    assert (again["num_dropped"], "num_dropped" in last) == (990, False)
