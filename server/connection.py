"""uvicorn's side of one connection, with one thing put right."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Ends its keep-alive timer with the connection, however that ended.

    uvicorn 0.54 lets it run after a reset; until it fires it keeps the last request, some 4 KB for more than a minute.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        """`exc` is None for an orderly end."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
