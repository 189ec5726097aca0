"""Noticing that a client left while its request is being worked on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.types import Receive

from server.errors import ClientDisconnectedError


@contextlib.asynccontextmanager
async def cancelled_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs inside when the client leaves, and raise ClientDisconnectedError then.

    To be entered once the body has been read: `receive` has nothing else to say from then on.
    """
    task = asyncio.current_task()
    assert task is not None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if has_left and task.uncancel() == 0:
            raise ClientDisconnectedError from None
        raise  # the server stops
    finally:
        watcher.cancel()
