"""The page at `/`: a list of files, read once at start and sent from memory. No path of a request is ever a path of a
file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.guarded_route import GuardedRoute

_HERE = Path(__file__).resolve().parent / "playground"
_SAMPLES = _HERE.parent.parent / "models" / "demo" / "samples"
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
FILES: Mapping[str, Path] = {
    "/": _HERE / "index.html",
    **{
        f"/playground/{name}": _HERE / name
        for name in (
            "style.css", "icon.svg", "app.js", "api.js", "chart.js", "code.js", "drawing.js", "gestures.js", "live.js",
            "picture.js", "results.js",
        )
    },
    **{f"/playground/{name}": _SAMPLES / name for name in ("sample.jpg", "crowded.jpg", "portrait.jpg")},
}  # fmt: skip
"""Address to file."""
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""Nothing is run, fetched or shown that does not come from this server; a copy is asked for anew."""


class PageFile:
    """One of them, as an ASGI application."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**HEADERS, "etag": tag}
        self._tag = tag.encode("ascii")
        self._whole = Response(content, headers={**headers, "content-type": _TYPES[path.suffix]})
        self._unchanged = Response(status_code=304, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The file, or that the client has it."""
        known = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
        has_it = self._tag in (tag.strip().removeprefix(b"W/") for tag in known.split(b","))
        await (self._unchanged if has_it else self._whole)(scope, receive, send)


def page_routes() -> list[GuardedRoute]:
    """One for each file. They hold no secret, so that the page can ask for the key."""
    return [
        GuardedRoute(address, PageFile(path), methods=["GET"], access="public")
        for address, path in FILES.items()
    ]
