"""An answer in OpenAI's words: as one object, or as the events of a stream."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import orjson

from server.chat.schemas import (
    AnswerChoice,
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    ChatUsage,
    Delta,
    DeltaChoice,
    FinishReason,
)
from server.results import Answered

_WORDS = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Wording:
    """Everything that is said of one answer. `created` is in whole seconds since 1970."""

    completion_id: str
    created: int
    model: str
    text: str
    finish_reason: FinishReason
    usage: ChatUsage

    @classmethod
    def of(cls, answered: Answered, request_id: str) -> Self:
        """What the worker of a vqa or caption model said. Raises KeyError and ValueError for another's."""
        said = orjson.loads(answered.result.payload)
        read, written = said["tokens"]["prompt"], said["tokens"]["written"]
        return cls(
            completion_id=f"chatcmpl-{request_id}",
            created=int(time.time()),
            model=answered.model_id,
            text=said["answer" if answered.task == "vqa" else "caption"],
            finish_reason="length" if said["is_cut"] else "stop",
            usage=ChatUsage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written),
        )

    def completion(self) -> bytes:
        """The whole as JSON."""
        choice = AnswerChoice(message=AnswerMessage(content=self.text), finish_reason=self.finish_reason)
        whole = ChatCompletion(
            id=self.completion_id, created=self.created, model=self.model, choices=(choice,), usage=self.usage
        )
        return whole.model_dump_json().encode()

    def events(self, includes_usage: bool) -> bytes:
        """Word by word, as server-sent events."""
        chunks = [self._chunk(DeltaChoice(delta=delta), includes_usage) for delta in self._deltas()]
        last = DeltaChoice(delta=Delta(), finish_reason=self.finish_reason)
        chunks.append(self._chunk(last, includes_usage))
        if includes_usage:
            chunks.append(self._chunk(None, includes_usage))
        return b"".join(b"data: %b\n\n" % text for text in (*map(orjson.dumps, chunks), b"[DONE]"))

    def _deltas(self) -> Iterator[Delta]:
        yield Delta(role="assistant", content="")
        yield from (Delta(content=word) for word in _WORDS.findall(self.text))

    def _chunk(self, choice: DeltaChoice | None, includes_usage: bool) -> dict[str, object]:
        """JSON types. Without a choice it is the one that says the usage, which is null in those before."""
        chunk = ChatCompletionChunk(
            id=self.completion_id,
            created=self.created,
            model=self.model,
            choices=[choice] if choice is not None else [],
            usage=self.usage if choice is None else None,
        )
        fields = chunk.model_dump(exclude=None if includes_usage else {"usage"})
        for each, shown in zip(chunk.choices, fields["choices"], strict=True):
            shown["delta"] = each.delta.model_dump(
                exclude_unset=True
            )  # a null would say that there is no text
        return fields
