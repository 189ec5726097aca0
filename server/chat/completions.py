"""`POST /v1/chat/completions`, from the first byte of the request to the reply."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope

from server.asking import Asking
from server.body import BodyShare
from server.chat.conversation import parse_chat, to_request
from server.chat.models import check_chat_model
from server.chat.wording import Wording
from server.disconnect import cancelled_on_disconnect
from server.errors import RequestFailedError
from server.replies import JsonReply
from server.results import timing_headers


class ChatCompletions(Asking):
    """The last question of a conversation, about its last image."""

    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> Response:
        """The 200. A stream begins when the answer is known, so that whatever goes wrong has its status."""
        state = scope["state"]
        chat = parse_chat(await self.engine.intake.read_json(scope, receive, share))
        check_chat_model(self.engine.registry.find(chat.model))
        request = to_request(chat)
        self.answering.admit(chat.model, state)
        try:
            async with cancelled_on_disconnect(receive):
                answered = await self.answering.answer(request, share, state)
        except RequestFailedError as error:
            if error.subject == "prompt":  # which is what it is called elsewhere
                raise RequestFailedError(error.code, "messages") from None
            raise
        wording = Wording.of(answered, state["request_id"])
        headers = timing_headers(answered)
        if not chat.stream:
            return JsonReply(wording.completion(), headers=headers)
        includes_usage = chat.stream_options is not None and bool(chat.stream_options.include_usage)
        headers |= {"cache-control": "no-cache"}
        return Response(wording.events(includes_usage), headers=headers, media_type="text/event-stream")
