"""What all routes that run a model have in common, whichever protocol they speak: a part of the budget for bodies, the
one way to an answer, and errors."""

from __future__ import annotations

from abc import ABC, abstractmethod

from starlette.types import ASGIApp, Receive, Scope, Send

from server.answering import Answering
from server.body import BodyShare
from server.engine import Engine
from server.errors import ClientDisconnectedError, RequestFailedError
from server.replies import ErrorReply


class Asking(ABC):
    """The ASGI application of one route."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.answering = Answering(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or nobody if the client has left."""
        try:
            with self.engine.budget.share() as share:
                reply = await self.reply(scope, receive, share)
        except ClientDisconnectedError:
            return
        except RequestFailedError as error:
            reply = ErrorReply(error, scope)
        await reply(scope, receive, send)

    @abstractmethod
    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> ASGIApp:
        """The reply to a request; `share` holds what is read of it. Raises RequestFailedError and
        ClientDisconnectedError."""
