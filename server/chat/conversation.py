"""From a conversation to one question about one image: which words count, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.chat.schemas import MAX_IMAGES, ChatBody, ChatMessage, ChatPart
from server.errors import RequestFailedError
from server.intake import InferenceRequest, image_source
from server.schemas import MAX_NEW_TOKENS, parse_body

_WITHOUT_MEANING: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "response_format": ({"type": "text"},),
    "stop": ([],),
    "tools": ([],),
    "web_search_options": (),
}
"""Of what would change the answer: the values, besides null, that ask for nothing."""


def parse_chat(body: bytes) -> ChatBody:
    """Read a JSON body. Raises RequestFailedError."""
    return parse_body(body, ChatBody, MAX_IMAGES)


def to_request(chat: ChatBody) -> InferenceRequest:
    """The question that a conversation ends with. Raises RequestFailedError."""
    for name, allowed in _WITHOUT_MEANING.items():
        value = getattr(chat, name)
        if value is not None and value not in allowed:
            raise RequestFailedError("not_supported", name)
    asked = [message for message in chat.messages if message.role == "user"]
    if not asked:
        raise RequestFailedError("invalid_parameter", "messages")
    encoded, image_url = image_source(_last_image(asked))
    longest = chat.max_completion_tokens or chat.max_tokens
    return InferenceRequest(
        model_id=chat.model,
        prompt="\n".join(part.text for part in _parts(asked[-1]) if part.type == "text" and part.text),
        parameters={} if longest is None else {"max_new_tokens": min(longest, MAX_NEW_TOKENS)},
        is_text=False,
        encoded=encoded,
        image_url=image_url,
    )


def _last_image(asked: Sequence[ChatMessage]) -> str:
    """The address of the image of the last message that has one."""
    for message in reversed(asked):
        images = [part.image_url for part in _parts(message) if part.type == "image_url"]
        if len(images) > 1:
            raise RequestFailedError("several_images")
        if images:
            if images[0] is None:
                raise RequestFailedError("invalid_parameter", "messages")
            return images[0].url
    raise RequestFailedError("image_required")


def _parts(message: ChatMessage) -> Sequence[ChatPart]:
    """Raises RequestFailedError for a sound or a file, which would go unheard."""
    if isinstance(message.content, str):
        return [ChatPart(type="text", text=message.content)]
    parts = message.content or []
    if any(part.type not in ("text", "image_url") for part in parts):
        raise RequestFailedError("not_supported", "messages")
    return parts
