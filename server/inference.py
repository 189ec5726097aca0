"""`POST /inference`, from the first byte of the request to the reply."""

from __future__ import annotations

from starlette.types import Receive, Scope

from server.asking import Asking
from server.body import BodyShare
from server.disconnect import cancelled_on_disconnect
from server.replies import JsonReply
from server.results import reply_to


class Inference(Asking):
    """Our own protocol; no request object in between."""

    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> JsonReply:
        """The 200 to one request in any of its three forms."""
        state = scope["state"]
        request = await self.engine.intake.read(
            scope, receive, share, lambda model_id: self.answering.admit(model_id, state)
        )
        async with cancelled_on_disconnect(receive):
            answered = await self.answering.answer(request, share, state)
        return reply_to(answered, state["request_id"])
