from __future__ import annotations

import logging

import pytest

from pool import progress_log
from pool.progress_log import ProgressLog


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_stages_are_logged_when_they_begin_and_a_download_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = ProgressLog("m")
    for done in (0, 50, 100):
        log.note({"stage": "download", "done_bytes": done, "total_bytes": 100})
    log.note({"stage": "load"})
    log.note({"stage": "warm_up"})
    assert said(caplog) == [
        "m: download started", "m: download ended", "m: load started", "m: warm_up started",
    ]  # fmt: skip
    assert caplog.records[1].__dict__["done_bytes"] == 100


def test_a_long_download_is_logged_every_so_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    now = [100.0]
    monkeypatch.setattr(progress_log.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    log = ProgressLog("m")
    for second in range(25):
        now[0] = 100.0 + second
        log.note({"stage": "download", "done_bytes": second, "total_bytes": 100})
    assert said(caplog) == ["m: download started", "m: download goes on", "m: download goes on"]
    assert caplog.records[-1].__dict__["done_bytes"] == 20
    assert caplog.records[-1].__dict__["seconds"] == 20.0
