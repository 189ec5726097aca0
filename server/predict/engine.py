"""Whom a run asks: a server elsewhere, or an engine in this process, over the very same routes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import httpx

from server.addresses import without_secrets
from server.app import create_app
from server.client import AsyncClient, InferenceError, ModelReply, UnreachableError
from server.download_display import open_display
from server.settings import Settings

TIMEOUT = 180.0
"""Seconds for one picture with everything that is tried again. A model that still loads does not count."""
NUM_RETRIES = 1000
POLL_INTERVAL = 0.05
LOADING_POLL_INTERVAL = 0.5
LOCAL_URL = "http://127.0.0.1"


@contextlib.asynccontextmanager
async def local_engine(settings: Settings, model: str) -> AsyncIterator[AsyncClient]:
    """An engine that serves `model` alone, ready. Raises InferenceError where it cannot be loaded, SettingsError and
    NoSuchDeviceError."""
    chosen = {"load_at_start": (model,), "keys_file": None, "rate_limit": 0.0, "cors_origins": ()}
    app = create_app(settings.model_copy(update=chosen))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with AsyncClient(
            LOCAL_URL, timeout=TIMEOUT, retries=NUM_RETRIES, transport=transport
        ) as client:
            await wait_until_loaded(client, model, POLL_INTERVAL)
            yield client


@contextlib.asynccontextmanager
async def remote_engine(url: str, api_key: str | None, model: str) -> AsyncIterator[AsyncClient]:
    """The server at `url`. Raises InferenceError where it has no such model, ValueError for what is no address."""
    async with AsyncClient(url, api_key, timeout=TIMEOUT, retries=NUM_RETRIES) as client:
        if not await client.live():  # later it is waited for: it was there
            raise UnreachableError("unreachable", f"No engine answers at {without_secrets(url)}.")
        await wait_until_loaded(client, model, LOADING_POLL_INTERVAL)
        yield client


async def wait_until_loaded(client: AsyncClient, model: str, interval: float) -> None:
    """As long as it is being loaded, with the progress of its download. Raises InferenceError where that fails."""
    display = open_display(model)
    try:
        while (reply := await client.model(model)).state == "loading":
            display(reply.progress.model_dump(exclude_none=True) if reply.progress else {})
            await asyncio.sleep(interval)
    finally:
        display.close()
    if reply.state in ("failed", "crash_looping"):
        raise _load_error(reply)


def _load_error(reply: ModelReply) -> InferenceError:
    if reply.error is not None:
        return InferenceError(reply.error.code, reply.error.message)
    return InferenceError("model_unavailable", f"The model {reply.model_id} cannot be served now.")


def say(text: str) -> None:
    """A line on standard error, as all commands say theirs."""
    print(f"inference-engine: {text}", file=sys.stderr, flush=True)
