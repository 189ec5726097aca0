"""Who may be connected: counts connections, and knows which of them could go to make room for others."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Literal

from server.connection import Connection
from server.metrics import Metrics
from server.receipt_settings import ReceiptSettings

MAX_UNSENT_BYTES = 256 * 2**20
"""Of all replies that wait for clients which do not take them."""
MAX_REFUSING = 64
"""Connections over the limit that are told so with patience; those beyond are told and closed at once."""

ENDING_INTERVAL = 0.002
"""Seconds between two connections that are ended for lateness. A thousand that came together would otherwise be refused
in one turn of the event loop, which for 0.2 to 0.4 s had nothing left for anybody else."""

Place = Literal["idle", "unfinished"]


class Gate:
    """Makes every connection of one server; to be given to uvicorn as its protocol class."""

    def __init__(self, settings: ReceiptSettings, metrics: Metrics, max_connections: int) -> None:
        self.settings = settings
        self.metrics = metrics
        self._max_connections = max_connections
        self.num_connections = 0
        self.num_refusing = 0
        # in the order in which they came there: who is first has been there longest
        self._places: dict[Place, OrderedDict[Connection, None]] = {
            "idle": OrderedDict(),
            "unfinished": OrderedDict(),
        }
        self._stalled: OrderedDict[Connection, int] = OrderedDict()
        self._num_unsent_bytes = 0
        self._next_ending_at = 0.0

    def __call__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """What uvicorn calls for each."""
        return Connection(self, config, server_state, app_state, _loop)

    def enter(self) -> bool:
        """One more. False if there is no room for it: all others have requests under way."""
        self.num_connections += 1
        # those that are being refused take no place: else somebody would have to go for each of them, later
        if self.num_connections - self.num_refusing <= self._max_connections:
            return True
        for place in ("idle", "unfinished"):
            if connections := self._places[place]:
                connection, _ = connections.popitem(last=False)
                connection.place = None
                self.metrics.count_closed(place)
                connection.transport.abort()
                return True
        self.metrics.count_closed("refused")
        return False

    def can_refuse_patiently(self) -> bool:
        """Whether there is room to wait until a client has read why."""
        return self.num_refusing < MAX_REFUSING

    def ending_delay(self, now: float) -> float:
        """Seconds for which one that is late has to wait for its refusal; `now` by the loop's clock."""
        at = max(now, self._next_ending_at)
        self._next_ending_at = at + ENDING_INTERVAL
        return at - now

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self.num_connections -= 1
        self.move(connection, None)
        self.flows(connection)

    def move(self, connection: Connection, place: Place | None) -> None:
        """`idle`: between two requests. `unfinished`: no request is complete yet. None: it must stay."""
        if connection.place:
            self._places[connection.place].pop(connection, None)
        connection.place = place
        if place:
            self._places[place][connection] = None

    def stalls(self, connection: Connection, num_bytes: int) -> None:
        """That many bytes of replies wait for its client. Too many in all: who has stalled longest is ended."""
        self._num_unsent_bytes += num_bytes - self._stalled.get(connection, 0)
        self._stalled[connection] = num_bytes
        while self._num_unsent_bytes > MAX_UNSENT_BYTES and len(self._stalled) > 1:
            longest = next(iter(self._stalled))
            self.flows(longest)
            self.metrics.count_closed("stalled")
            longest.transport.abort()

    def flows(self, connection: Connection) -> None:
        """Nothing waits for its client any more."""
        self._num_unsent_bytes -= self._stalled.pop(connection, 0)
