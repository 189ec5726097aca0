from __future__ import annotations

import errno
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from models import tries
from models.tries import (
    DownloadError,
    InterruptedDownloadError,
    answered,
    is_about_storage,
    persist,
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, without sleeping."""
    slept: list[float] = []
    monkeypatch.setattr(tries.time, "sleep", slept.append)  # type: ignore[attr-defined]
    return slept


class Attempts:
    """Fails `num_failures` times with `error`; each attempt brings `num_bytes`."""

    def __init__(self, num_failures: int, error: Exception, num_bytes: int = 0) -> None:
        self.num_failures, self.error, self.each = num_failures, error, num_bytes
        self.count = self.total = 0

    def __call__(self) -> str:
        self.count += 1
        self.total += self.each
        if self.count <= self.num_failures:
            raise self.error
        return "there"


def test_what_may_pass_is_tried_again_after_longer_and_longer_pauses(pauses: list[float]) -> None:
    attempts = Attempts(2, InterruptedDownloadError("cut"))
    assert persist(attempts, lambda: attempts.total) == "there"
    assert pauses == [1.0, 2.0]


def test_it_is_given_up_after_tries_that_brought_nothing(pauses: list[float]) -> None:
    attempts = Attempts(99, InterruptedDownloadError("cut"))
    with pytest.raises(InterruptedDownloadError):
        persist(attempts, lambda: attempts.total)
    assert attempts.count == tries.MAX_TRIES


def test_it_goes_on_as_long_as_bytes_come(pauses: list[float]) -> None:
    attempts = Attempts(50, InterruptedDownloadError("cut"), num_bytes=10)
    assert persist(attempts, lambda: attempts.total) == "there"
    assert set(pauses) == {1.0}


def test_what_does_not_pass_is_not_tried_again(pauses: list[float]) -> None:
    attempts = Attempts(1, DownloadError("no such file"))
    with pytest.raises(DownloadError):
        persist(attempts, lambda: 0)
    assert (attempts.count, pauses) == (1, [])


def test_the_host_says_how_long_to_wait_but_not_longer_than_somebody_waits(pauses: list[float]) -> None:
    assert persist(Attempts(1, InterruptedDownloadError("busy", 7.0)), lambda: 0) == "there"
    assert pauses == [7.0]
    with pytest.raises(InterruptedDownloadError):
        persist(Attempts(1, InterruptedDownloadError("busy", 3600.0)), lambda: 0)
    assert pauses == [7.0]


@pytest.mark.parametrize(("status", "passes"), [
    (400, False), (401, False), (403, False), (404, False), (410, False), (429, True), (500, True), (503, True),
])  # fmt: skip
def test_which_statuses_pass(status: int, passes: bool) -> None:
    error = answered("http://host/x", status, {})
    assert isinstance(error, InterruptedDownloadError) is passes
    assert str(status) in str(error)


def test_retry_after_is_read_as_seconds_or_a_date_and_nonsense_is_ignored() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    found = []
    for value in ("9", soon, past, "soon", "-3", ""):
        error = answered("", 429, {"Retry-After": value})
        assert isinstance(error, InterruptedDownloadError)
        found.append(error.retry_after)
    assert found[0] == 9.0
    assert 55 < (found[1] or 0) <= 60
    assert found[2:] == [0.0, None, None, None]


def test_the_disk_is_told_from_the_network() -> None:
    assert all(
        is_about_storage(OSError(n, "")) for n in (errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EFBIG)
    )
    assert not any(
        is_about_storage(OSError(n, "")) for n in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ENETUNREACH)
    )
    assert not is_about_storage(OSError("no number"))
    assert not is_about_storage(ValueError())
