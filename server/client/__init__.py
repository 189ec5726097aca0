"""Asking an engine from Python: `Client`, and `AsyncClient` for asyncio.

Imports httpx, pydantic and the declared replies, nothing of the engine itself.
"""

from server.client.asynchronous import AsyncClient
from server.client.calls import Call, Options
from server.client.errors import (
    BusyError,
    InferenceError,
    RejectedError,
    ServerFailedError,
    UnreachableError,
)
from server.client.image import ImageLike
from server.client.synchronous import Client
from server.reply_schemas import InferenceReply
from server.state_schemas import ModelReply

__all__ = [
    "AsyncClient",
    "BusyError",
    "Call",
    "Client",
    "ImageLike",
    "InferenceError",
    "InferenceReply",
    "ModelReply",
    "Options",
    "RejectedError",
    "ServerFailedError",
    "UnreachableError",
]
