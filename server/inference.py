"""`POST /inference`, from the first byte of the request to the reply."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope

from server.asking import Asking
from server.body import BodyShare
from server.disconnect import cancelled_on_disconnect
from server.negotiation import picture_kind
from server.results import picture_reply_to, reply_to


class Inference(Asking):
    """Our own protocol; no request object in between."""

    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> ASGIApp:
        """The 200 to one request in any of its three forms, as JSON or as a picture."""
        state = scope["state"]
        kind = picture_kind(scope)
        request = await self.engine.intake.read(
            scope, receive, share, lambda model_id: self.answering.admit(model_id, state)
        )
        async with cancelled_on_disconnect(receive):
            answered = await self.answering.answer(request, share, state, kind)
        if kind is not None:
            held = self.engine.budget.share()
            held.grow(len(answered.picture))
            return picture_reply_to(answered, kind, held)
        return reply_to(answered, state["request_id"])
