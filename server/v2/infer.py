"""`POST /v2/models/{model_id}/infer`: each image is a request of its own, and the answers come back as tensors."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from starlette.types import Receive, Scope

from models.spec import Task
from server.asking import Asking
from server.body import BodyShare, read_body
from server.disconnect import cancelled_on_disconnect
from server.errors import RequestFailedError
from server.intake import InferenceRequest, check_is_plain
from server.replies import JsonReply
from server.results import Answered, body_of
from server.several import answer_one, deadline_of
from server.v2 import binary, images, outputs
from server.v2.schemas import VERSION, InferBody, RequestedOutput
from server.v2.tensors import HEADER_LENGTH, read_tensors

MAX_AT_ONCE = 8
"""Images of one request that wait in the model's queue at the same time: a large request is no crowd of clients."""
MAX_REPLY_BYTES = 32 * 2**20
"""Of all answers to one request, as JSON."""
MAX_JSON_BYTES = 2**20
"""Of the JSON before tensors' bytes, beside the largest image."""
_MEDIA_TYPES = ("", "application/json", "application/octet-stream")
"""Triton's client names none."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the reply is to hold: the request's own id; outputs by name, None for all; those of `is_binary`, else all as
    `by_default` says, behind the JSON."""

    id: str | None
    names: Sequence[str] | None
    is_binary: Mapping[str, bool]
    by_default: bool

    def in_binary(self, names: Sequence[str]) -> set[str]:
        """Those of `names` that go behind the JSON."""
        return {name for name in names if self.is_binary.get(name, self.by_default)}


class Infer(Asking):
    """The protocol's one route that runs a model."""

    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> JsonReply:
        """The 200. Raises RequestFailedError, of several images the first that failed."""
        state = scope["state"]
        model_id = scope["path_params"]["model_id"]
        self.answering.admit(model_id, state)
        wanted, requests = await self._read(scope, receive, share)
        if charge := state.get("charge"):
            charge(len(requests) - 1)
        if (task := self._task(model_id)) is not None:
            outputs.check_names(wanted.names or (), task)
        async with cancelled_on_disconnect(receive):
            answers = await self._answer_all(requests, share, state)
            task = cast(Task, answers[0].task)
            names = wanted.names or outputs.names_of(task)
            outputs.check_names(names, task)
            replies = [body_of(answered, state["request_id"]) for answered in answers]
            head = {"model_name": model_id, "model_version": VERSION}
            if wanted.id is not None:
                head["id"] = wanted.id

            def make() -> JsonReply:
                made = outputs.make_outputs(names, task, replies)
                return binary.reply_with(head, made, wanted.in_binary(names))

            return await self.engine.decoder.run(make)

    def _task(self, model_id: str) -> Task | None:
        """None where only the weights know it, and they are not loaded."""
        served = self.engine.registry.find(model_id)
        return served.spec.task if served.spec is not None else served.known.task

    async def _read(
        self, scope: Scope, receive: Receive, share: BodyShare
    ) -> tuple[_Wanted, list[InferenceRequest]]:
        headers = dict(reversed(scope["headers"]))
        check_is_plain(scope)
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind not in _MEDIA_TYPES:
            raise RequestFailedError("unsupported_media_type")
        intake = self.engine.intake
        num_json_bytes, limit = None, intake.max_json_bytes
        if (given := headers.get(HEADER_LENGTH.lower().encode())) is not None:
            if not given.isdigit() or len(given) > 18:
                raise RequestFailedError("invalid_parameter", HEADER_LENGTH)
            num_json_bytes, limit = int(given), intake.max_body_bytes + MAX_JSON_BYTES
        body = await read_body(scope, receive, limit, share)
        limits = self.engine.decoder.limits

        def unpack() -> tuple[_Wanted, list[InferenceRequest]]:
            asked, tensors = read_tensors(body, num_json_bytes)
            return _wanted(asked), images.to_requests(
                scope["path_params"]["model_id"], asked, tensors, limits
            )

        return await self.engine.decoder.run(unpack)

    async def _answer_all(
        self, requests: Sequence[InferenceRequest], share: BodyShare, state: MutableMapping[str, Any]
    ) -> list[Answered]:
        """In the order of `requests`. The body is gone; `share` becomes one for each of the images out of it, and holds
        the answers."""
        with share.moved():
            pass
        answers: dict[int, Answered] = {}
        turns = asyncio.Semaphore(MAX_AT_ONCE)
        states = [dict(state) for _ in requests]
        deadline = deadline_of(self.engine, [requests[0].model_id])

        async def answer(position: int, image: BodyShare) -> None:
            async with turns:
                if len(requests) == 1:
                    answered = await self.answering.answer(requests[0], image, states[0])
                else:
                    answered = await answer_one(
                        self.answering, requests[position], image, states[position], deadline
                    )
            share.grow(len(answered.result.payload))
            answers[position] = answered
            if sum(len(answered.result.payload) for answered in answers.values()) > MAX_REPLY_BYTES:
                raise RequestFailedError("answer_too_large")

        with contextlib.ExitStack() as held:
            shares = [held.enter_context(self.engine.budget.share()) for _ in requests]
            for request, image in zip(requests, shares, strict=True):
                image.grow(len(request.encoded or ()))
            tasks = [asyncio.create_task(answer(*each)) for each in enumerate(shares)]
            await _all_done(tasks)
        state.update(states[0])
        return [answers[position] for position in range(len(requests))]


async def _all_done(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raises what the first in order that fails has raised, so that an equal request is told the same; nothing of them
    runs on then."""
    try:
        for position, task in enumerate(tasks):
            await asyncio.wait([task])
            error = task.exception()
            if isinstance(error, RequestFailedError) and len(tasks) > 1 and error.code != "answer_too_large":
                named = copy.copy(error)  # requests that share a run share its error, too
                named.message = f"Image {position}: {error.message}"
                raise named from None
            if error is not None:
                raise error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _wanted(asked: InferBody) -> _Wanted:
    """Raises RequestFailedError."""
    by_default = (asked.parameters or {}).get("binary_data_output", False)
    if not isinstance(by_default, bool):
        raise RequestFailedError("invalid_parameter", "parameters.binary_data_output")
    is_binary = {output.name: _is_binary(output, by_default) for output in asked.outputs or ()}
    names = [output.name for output in asked.outputs or ()] or None
    return _Wanted(asked.id, names, is_binary, by_default)


def _is_binary(output: RequestedOutput, by_default: bool) -> bool:
    parameters = output.parameters or {}
    for name in parameters:
        if name == "classification" or name.startswith("shared_memory"):
            raise RequestFailedError("invalid_tensor", output.name, reason="cannot be had in that way")
    is_binary = parameters.get("binary_data", by_default)
    if not isinstance(is_binary, bool):
        raise RequestFailedError("invalid_tensor", output.name, reason="must have binary_data true or false")
    return is_binary
