"""`GET /docs`: the OpenAPI description as a page to read and to try, by Swagger UI, with nothing from another host."""

from __future__ import annotations

import asyncio
import functools
import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from server.guarded_route import GuardedRoute, Level

FOLDER = Path(__file__).parent / "swagger_ui"
FILES: Mapping[str, str] = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}
"""What the page asks for, below its own path, with its media type."""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Model inference engine: API</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> says the same.</noscript>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
"""Its addresses are relative: a proxy may have put it below another path."""
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
"""Nothing that stands in the page itself is run, nothing goes to another host."""


def docs_routes(access: Level) -> list[GuardedRoute]:
    """The page and its files, each under a path of its own."""
    routes = [GuardedRoute("/docs", _page, methods=["GET"], access=access)]
    return routes + [
        GuardedRoute(f"/docs/{asset.name}", asset.reply, methods=["GET"], access=access)
        for asset in _assets()
    ]


@functools.cache
def _assets() -> list[_Asset]:
    return [_Asset(name, media_type) for name, media_type in FILES.items()]


async def _page(request: Request) -> Response:
    return HTMLResponse(_PAGE, headers=PAGE_HEADERS)


class _Asset:
    """A file, held compressed: most of the time it is sent that way, or not at all because the client has it."""

    def __init__(self, name: str, media_type: str) -> None:
        self.name = name
        self._media_type = media_type
        path = FOLDER / f"{name}.gz"
        self._compressed = path.read_bytes() if path.exists() else gzip.compress((FOLDER / name).read_bytes())
        self._tag = f'"{hashlib.sha256(self._compressed).hexdigest()[:32]}"'

    async def reply(self, request: Request) -> Response:
        """200, or 304 for who has it."""
        headers = {"etag": self._tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = self._compressed
            headers["content-encoding"] = "gzip"
        else:
            content = await asyncio.to_thread(gzip.decompress, self._compressed)
        return Response(content, headers=headers, media_type=self._media_type)
