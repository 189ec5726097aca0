"""A budget that is handed out in the order in which it was asked for. In the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class Turns:
    """So many slots, or pixels, at once. Who asks for more than all of them gets all."""

    def __init__(self, total: int) -> None:
        self._total = self._free = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_idle(self) -> bool:
        """Nobody holds or waits for any."""
        return self._free == self._total and not self._waiting

    @contextlib.asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Wait for `amount`; who waits is not overtaken by those who want less. Given back at the end."""
        amount = min(amount, self._total)
        if self._waiting or amount > self._free:
            await self._wait(amount)
        else:
            self._free -= amount
        try:
            yield
        finally:
            self._give_back(amount)

    async def _wait(self, amount: int) -> None:
        turn = amount, asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn[1]
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._give_back(0)  # whoever stood behind it may want less
            else:
                self._give_back(amount)
            raise

    def _give_back(self, amount: int) -> None:
        self._free += amount
        while self._waiting and self._waiting[0][0] <= self._free:
            amount, turn = self._waiting.popleft()
            self._free -= amount
            if not turn.done():  # who is being cancelled gives it back as soon as it wakes
                turn.set_result(None)
