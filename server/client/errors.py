"""What a call may raise, and how a reply that is no success becomes one of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import ValidationError

from server.reply_schemas import ErrorBody

UNEXPECTED = "unexpected_reply"
"""The code of a reply that no engine gave: a proxy's, or another program's."""


class InferenceError(Exception):
    """A call without an answer. `code` is for programs, `message` for people; `status` and `request_id` are None where
    no engine answered, `retry_after` (seconds) where none was named."""

    def __init__(
        self,
        code: str,
        message: str,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after


class RejectedError(InferenceError):
    """4xx: the same request will be refused again."""


class BusyError(InferenceError):
    """429 and 503: not now, and not within the time that the call had."""


class ServerFailedError(InferenceError):
    """Anything else that came back and is no answer."""


class UnreachableError(InferenceError):
    """No reply came: nobody listens, the connection broke, or the time was over."""


def error_of(response: httpx.Response) -> InferenceError:
    """The error that a reply with another status than 2xx is."""
    status = response.status_code
    retry_after = seconds_of(response.headers.get("retry-after"))
    try:
        detail = ErrorBody.model_validate_json(response.content).error
        code, message, request_id = detail.code, detail.message, detail.request_id
    except ValidationError:
        code, message = UNEXPECTED, f"The reply has status {status} and is not an engine's."
        request_id = response.headers.get("x-request-id")
    if status in (429, 503):
        kind: type[InferenceError] = BusyError
    else:
        kind = RejectedError if 400 <= status < 500 else ServerFailedError
    return kind(code, message, status, request_id, retry_after)


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds from now that a `Retry-After` names, as a number or as a date; None if it names none."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            moment = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
