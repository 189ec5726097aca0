"""A server that fetches images must not be made to ask itself, or to ask in a circle with others of its kind."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import RequestFailedError
from server.replies import ErrorReply

FETCH_HEADER = b"x-inference-engine-fetch"
"""Of every request that fetches an image."""


class LoopGuard:
    """Pure ASGI, inside RequestScope. Refuses whatever such a server asks for: ``image_url_not_allowed``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        app = self._app
        if scope["type"] == "http" and any(name == FETCH_HEADER for name, _ in scope["headers"]):
            app = ErrorReply(RequestFailedError("image_url_not_allowed"), scope)
        await app(scope, receive, send)
