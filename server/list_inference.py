"""`POST /inference/batch`: several images in one call, each answered as if it had come alone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.types import Receive, Scope

from server.asking import Asking
from server.body import BodyShare
from server.disconnect import cancelled_on_disconnect
from server.engine import Engine
from server.error_shapes import own_shape
from server.errors import RequestFailedError
from server.image_list import Listed, ListIntake, models_of
from server.intake import InferenceRequest
from server.replies import JsonReply
from server.results import body_of

log = logging.getLogger(__name__)
MAX_PAUSE = 1.0
MIN_PAUSE = 0.05
"""Seconds between two looks whether the model's queue has room again."""


class ListInference(Asking):
    """A few images at a time; what is wrong with one of them stands in its place."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        settings = engine.settings
        max_bytes = min(settings.max_list_bytes, settings.max_in_flight_bytes)
        self._intake = ListIntake(max_bytes, settings.max_body_bytes, settings.max_listed_images)

    async def reply(self, scope: Scope, receive: Receive, share: BodyShare) -> JsonReply:
        """200 as soon as the list itself can be read."""
        state = scope["state"]
        listed = await self._intake.read(scope, receive, share)
        if charge := state.get("charge"):
            charge(len(listed) - 1)
        state["num_images"] = len(listed)
        self._note_model(listed, state)
        run = _Run(self, listed, share, state, self._deadline(listed))
        async with cancelled_on_disconnect(receive):
            results = await run.results(self.engine.settings.max_listed_at_once)
        state["num_failed"] = run.num_failed
        head, tail = b'{"results":[', orjson.dumps({"request_id": state["request_id"]})
        return JsonReply(head + b",".join(results) + b"]," + tail[1:])

    def _note_model(self, listed: list[Listed], state: dict[str, Any]) -> None:
        """For the log and the count of requests, where all ask for the same that there is."""
        names = models_of(listed)
        if len(names) == 1 and (name := names.pop()) in self.engine.registry.models:
            state["model_id"] = name

    def _deadline(self, listed: list[Listed]) -> float:
        """Of all of them together; a load is waited for as it is for a single image."""
        models = self.engine.registry.models
        asked = [models[name] for name in models_of(listed) if name in models]
        settings = self.engine.settings
        loading = 0.0 if all(served.is_ready for served in asked) else settings.load_timeout
        return time.monotonic() + settings.deadline + loading


class _Run:
    """One list on its way through the models."""

    def __init__(
        self,
        route: ListInference,
        listed: list[Listed],
        share: BodyShare,
        state: Mapping[str, Any],
        deadline: float,
    ) -> None:
        self._route = route
        self._listed = listed
        self._share = share
        self._state = state
        self._deadline = deadline
        self._results = [b""] * len(listed)
        self.num_failed = 0

    async def results(self, max_at_once: int) -> list[bytes]:
        """JSON objects, in the order of the images. All of it is cancelled with the caller."""
        places = iter(range(len(self._listed)))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(max_at_once, len(self._listed))):
                group.create_task(self._work(places))
        return self._results

    async def _work(self, places: Iterator[int]) -> None:
        for place in places:
            request = self._listed[place]
            request_id = self._state["request_id"]
            code = ""
            try:
                if isinstance(request, RequestFailedError):
                    raise request
                result = await self._answer(request)
                self._share.grow(len(result))  # answers that wait for the last one are held like bodies
            except RequestFailedError as error:
                code, result = error.code, orjson.dumps(own_shape(error, request_id))
            except (
                Exception
            ):  # the border between images: what is unforeseen with one of them is no other's loss
                log.exception("image of a list failed unexpectedly", extra={"request_id": request_id})
                code, result = "internal", orjson.dumps(own_shape(RequestFailedError("internal"), request_id))
            self._results[place] = result
            self.num_failed += bool(code)
            model_id = request.model_id if isinstance(request, InferenceRequest) else ""
            self._listed[place] = RequestFailedError("internal")  # its pixels are no longer needed
            metrics, models = self._route.engine.metrics, self._route.engine.registry.models
            metrics.count_listed(model_id if model_id in models else "", code)

    async def _answer(self, request: InferenceRequest) -> bytes:
        num_bytes = len(request.encoded or b"")
        try:
            with self._share.part(num_bytes) as share:
                async with asyncio.timeout(self._deadline - time.monotonic()):
                    return await self._answer_once_there_is_room(request, share)
        except TimeoutError:
            raise RequestFailedError("deadline_exceeded") from None

    async def _answer_once_there_is_room(self, request: InferenceRequest, share: BodyShare) -> bytes:
        """A full queue is waited for: the list takes what is left of it and no more."""
        while True:
            state = {
                "started_at": time.monotonic(),
                "key_id": self._state.get("key_id"),
                "request_id": self._state["request_id"],
            }
            try:
                self._route.answering.admit(request.model_id, state)
                answered = await self._route.answering.answer(request, share, state)
                return body_of(answered, self._state["request_id"])
            except RequestFailedError as error:
                pause = min(max(error.retry_after or 0.0, MIN_PAUSE), MAX_PAUSE)
                if error.code != "queue_full" or time.monotonic() + pause >= self._deadline:
                    raise
            await asyncio.sleep(pause)
