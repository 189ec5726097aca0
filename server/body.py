"""Reading a request's body within a limit per request and a budget for all of them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from starlette.types import Receive, Scope

from server.errors import ClientDisconnectedError, RequestFailedError


class BodyBudget:
    """Bytes of request bodies that the whole server may hold at once."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.num_bytes = 0

    @property
    def max_bytes(self) -> int:
        """The most that it ever holds."""
        return self._max_bytes

    def share(self) -> BodyShare:
        """One request's part of the budget, empty at first; a context manager that gives it all back."""
        return BodyShare(self)

    def can_take(self, num_bytes: int) -> bool:
        """True if that much would fit now."""
        return self.num_bytes + num_bytes <= self._max_bytes


class BodyShare:
    """What one request holds. Grows with what was received, so a slow client holds nothing scarce."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._num_bytes = 0

    def expect(self, num_bytes: int) -> None:
        """Refuse now what would not fit anyway. Raises RequestFailedError ``overloaded``."""
        if not self._budget.can_take(num_bytes):
            raise RequestFailedError("overloaded")

    def grow(self, num_bytes: int) -> None:
        """Hold more. Raises RequestFailedError ``overloaded``."""
        self.expect(num_bytes)
        self._budget.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def hold(self, num_bytes: int) -> None:
        """Hold so much at least. Raises RequestFailedError ``overloaded``."""
        if num_bytes > self._num_bytes:
            self.grow(num_bytes - self._num_bytes)

    def part(self, num_bytes: int) -> BodyShare:
        """A share that holds that much of what this one held, or all of it: for one image of several."""
        other = BodyShare(self._budget)
        other._num_bytes = min(num_bytes, self._num_bytes)
        self._num_bytes -= other._num_bytes
        return other

    def moved(self) -> BodyShare:
        """A share that holds all that this one held: for work that may outlast the request whose body it needs."""
        other = BodyShare(self._budget)
        other._num_bytes, self._num_bytes = self._num_bytes, 0
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.num_bytes -= self._num_bytes
        self._num_bytes = 0


def declared_length(scope: Scope) -> int | None:
    """The Content-Length, None without one."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


async def read_body(scope: Scope, receive: Receive, limit: int, share: BodyShare) -> bytes:
    """The whole body, of at most `limit` bytes.

    Raises RequestFailedError ``body_too_large`` (declared: before anything is read; else as soon as it is
    counted), ``overloaded`` or ``empty_body``, and ClientDisconnectedError.
    """
    declared = declared_length(scope)
    if declared is not None:
        if declared > limit:
            raise RequestFailedError("body_too_large")
        share.expect(declared)
    body = bytearray()
    more_body = True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunk = message.get("body", b"")
        more_body = message.get("more_body", False)
        if len(body) + len(chunk) > limit:
            scope["state"]["is_body_read"] = not more_body
            raise RequestFailedError("body_too_large")
        share.grow(len(chunk))
        if not body and not more_body:
            body = chunk  # the common case: all in one piece, no copy
            break
        body += chunk
    scope["state"]["is_body_read"] = True
    if not body:
        raise RequestFailedError("empty_body")
    return bytes(body)
