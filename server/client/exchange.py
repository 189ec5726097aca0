"""From a call to its answer, over as many attempts as it takes: what both clients do between sending and sleeping."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx

from server.client.calls import Call
from server.client.errors import BusyError, InferenceError, UnreachableError, error_of

T = TypeVar("T")
FIRST_PAUSE, MAX_PAUSE = 0.25, 8.0
MAX_CONNECT_TIMEOUT = 10.0
BEYOND_WAITING = frozenset(
    (
        "weights_unavailable",
        "weights_not_stored",
        "weights_invalid",
        "weights_mismatch",
        "unsupported_model",
        "runtime_unavailable",
    )
)
"""Codes of 503 that last until an operator does something."""


@dataclass(frozen=True)
class Patience:
    """`timeout`: seconds that a call may take with all its attempts and pauses; `num_retries`: attempts beyond the
    first. `clock` gives monotonic seconds, `jitter` a number from 0 to 1."""

    timeout: float
    num_retries: int
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def once(self) -> Patience:
        """The same without retries."""
        return replace(self, num_retries=0)

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds before the attempt after the one of this number, from 0. Never less than the server asked for;
        a little more, so that those who were refused together do not come back together."""
        backoff: float = min(FIRST_PAUSE * 2.0**attempt, MAX_PAUSE)
        if retry_after is None:
            return backoff * (0.5 + self.jitter() / 2)
        return retry_after + min(backoff, FIRST_PAUSE) * self.jitter()


@dataclass(frozen=True)
class Send:
    """To be sent, within seconds; back comes the response or the error."""

    call: Call[Any]
    timeout: float

    @property
    def timeouts(self) -> httpx.Timeout:
        """As httpx counts them."""
        return httpx.Timeout(self.timeout, connect=min(self.timeout, MAX_CONNECT_TIMEOUT))


@dataclass(frozen=True)
class Pause:
    """Seconds to wait."""

    seconds: float


Step = Send | Pause
Outcome = httpx.Response | httpx.RequestError | None


def exchange(call: Call[T], patience: Patience) -> Generator[Step, Outcome, T]:
    """Yields what is to be done next, is sent what came of it, returns the answer. Raises InferenceError."""
    deadline = patience.clock() + patience.timeout
    for attempt in range(patience.num_retries + 1):
        outcome = yield Send(call, max(deadline - patience.clock(), 0.001))
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            return call.read(outcome)
        error = _failure(outcome)
        pause = patience.pause(attempt, error.retry_after)
        is_last = attempt == patience.num_retries or patience.clock() + pause >= deadline
        if is_last or not _may_help(call, outcome, error):
            raise error from (outcome if isinstance(outcome, Exception) else None)
        yield Pause(pause)
    raise AssertionError("the last attempt returns or raises")


def _may_help(call: Call[T], outcome: Outcome, error: InferenceError) -> bool:
    """Whether another attempt may: nothing was done (busy, nobody there), or doing it twice is no harm."""
    if isinstance(error, BusyError):
        return error.code not in BEYOND_WAITING
    if isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    is_cut = isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)
    return is_cut and call.is_repeatable


def _failure(outcome: Outcome) -> InferenceError:
    if isinstance(outcome, httpx.Response):
        return error_of(outcome)
    if isinstance(outcome, httpx.TimeoutException):
        return UnreachableError("timeout", "No reply came in time.")
    return UnreachableError(
        "unreachable", f"The server cannot be reached: {outcome or type(outcome).__name__}."
    )
