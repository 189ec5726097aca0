"""The application without a socket and without an event loop of its own: for what is decided before a model is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from server.app import create_app
from server.settings import Settings

HERE, ELSEWHERE = "127.0.0.1", "203.0.113.7"


def make_app(**settings: Any) -> Starlette:
    return create_app(Settings(load_at_start=(), cuda_visible_devices="", **settings))


@asynccontextmanager
async def client_of(app: Starlette, address: str = HERE) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a socket, asked from `address`."""
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
