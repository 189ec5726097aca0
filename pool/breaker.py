"""Stops a model whose workers die one after the other from eating the machine. Pure, front process."""

from __future__ import annotations

import math
from collections import deque

from pool.limits import Limits

_MAX_RETRY = 300.0
_POLL = 0.5
_SAME_FAILURE = 1.0
"""Seconds within which the deaths that one forkserver's death causes are told."""


class Breaker:
    """Open after too many deaths without progress in a while; then one replica at a time may try.

    Each try that fails doubles the wait, up to 5 minutes; a batch that is done closes it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failures: deque[float] = deque(maxlen=limits.breaker_failures)
        self._open_until: float | None = None
        self._retry = limits.breaker_retry
        self._on_trial: int | None = None
        self._forkserver_failed_at = -math.inf

    @property
    def is_open(self) -> bool:
        """No progress since it opened; a trial may be under way."""
        return self._open_until is not None

    def retry_after(self, now: float) -> float:
        """Seconds until the next trial, 0 if none is needed or one is under way."""
        return max(self._open_until - now, 0.0) if self._open_until is not None else 0.0

    def failed(self, replica: int, now: float, *, is_forkservers: bool = False) -> None:
        """A worker of `replica` died without having done anything. `is_forkservers`: as all did that were there."""
        if self._open_until is not None:
            if self._on_trial == replica:
                self._retry = min(self._retry * 2, _MAX_RETRY)
                self._open_until, self._on_trial = now + self._retry, None
            return
        if is_forkservers:
            if now - self._forkserver_failed_at < _SAME_FAILURE:
                return
            self._forkserver_failed_at = now
        self._failures.append(now)
        is_full = len(self._failures) == self._limits.breaker_failures
        if is_full and now - self._failures[0] <= self._limits.breaker_window:
            self._open_until = now + self._retry

    def progressed(self) -> None:
        """A batch was done: what went wrong before does not count any more."""
        self._failures.clear()
        self._open_until = self._on_trial = None
        self._retry = self._limits.breaker_retry

    def start_delay(self, replica: int, now: float) -> float:
        """Seconds that `replica` has to wait, at least, before it may start a worker; ask again then.

        0 makes it the one on trial where the breaker is open.
        """
        if self._open_until is None:
            return 0.0
        if self._on_trial is None and now >= self._open_until:
            self._on_trial = replica
        return 0.0 if self._on_trial == replica else max(self._open_until - now, _POLL)
