"""A route that says who may use it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from server.operators import check_operator

Level = Literal["public", "key", "admin"]
"""Without keys, ``public`` and ``key`` are everybody, ``admin`` is somebody on this machine."""


class GuardedRoute(Route):
    """`access` has no default: whoever adds a route decides."""

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, methods: Collection[str], access: Level
    ) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.access = access

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises RequestFailedError for who is no operator, before anything is said of method or model."""
        if self.access == "admin":
            check_operator(scope)
        await super().handle(scope, receive, send)


def open_paths(routes: Iterable[BaseRoute]) -> list[str]:
    """Paths that need no key. One with a parameter in it can never be among them."""
    return [
        route.path
        for route in routes
        if isinstance(route, GuardedRoute) and route.access == "public" and not route.param_convertors
    ]
