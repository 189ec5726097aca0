"""Which web pages' scripts may call this server, as browsers ask it (CORS). Only there if an origin is allowed."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_REQUEST_HEADERS = ("Authorization", "X-API-Key", "X-Request-Id")
_REPLY_HEADERS = ("Retry-After", "Server-Timing", "WWW-Authenticate", "X-Request-Id")
_PREFLIGHT = "preflight"


class Cors(CORSMiddleware):
    """Outside RequestScope, so that scripts can read every error, the unforeseen too.

    A browser asks first (a preflight), and has no key then. That is answered by `Preflights`, inside RequestScope, so
    that it is logged like any request. One that is not allowed is an ``OPTIONS`` like any other: 401 or 405. Cookies
    and the like are never allowed, so any origin (``*``) gives a page no more than anybody has.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_REPLY_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers, and note a preflight that is allowed."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if (
            scope["method"] == "OPTIONS"
            and "origin" in headers
            and "access-control-request-method" in headers
            and (answer := self.preflight_response(headers)).status_code == 200
        ):
            scope.setdefault("state", {})[_PREFLIGHT] = answer
            await self.app(scope, receive, send)
        else:
            await self.simple_response(scope, receive, send, headers)


class Preflights:
    """Pure ASGI, between RequestScope and Access: answers what `Cors` allowed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A preflight, or whatever else it is to the next."""
        await scope.get("state", {}).get(_PREFLIGHT, self._app)(scope, receive, send)
