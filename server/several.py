"""The images of one request, whichever protocol lists them: each is answered as if it had come alone, but for the
deadline, which is of all of them, and a full queue, which is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, MutableMapping
from typing import Any

from server.answering import Answering
from server.body import BodyShare
from server.engine import Engine
from server.errors import RequestFailedError
from server.intake import InferenceRequest
from server.results import Answered

MAX_PAUSE = 1.0
MIN_PAUSE = 0.05
"""Seconds between two looks whether the model's queue has room again."""


def deadline_of(engine: Engine, model_ids: Collection[str]) -> float:
    """Of a request that asks these models; a load is waited for as it is for a single image."""
    models, settings = engine.registry.models, engine.settings
    is_ready = all(models[name].is_ready for name in model_ids if name in models)
    return time.monotonic() + settings.deadline + (0.0 if is_ready else settings.load_timeout)


async def answer_one(
    answering: Answering,
    request: InferenceRequest,
    share: BodyShare,
    state: MutableMapping[str, Any],
    deadline: float,
) -> Answered:
    """The answer to one of them, as `Answering.answer` gives it: it takes what room others leave in the queue and no
    more. `deadline` is a `time.monotonic` moment. Raises RequestFailedError."""
    num_bytes = len(request.encoded or ())
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            while True:
                share.hold(num_bytes)  # a run that was not admitted took them over, and gave them back
                try:
                    answering.admit(request.model_id, state)
                    return await answering.answer(request, share, state)
                except RequestFailedError as error:
                    pause = min(max(error.retry_after or 0.0, MIN_PAUSE), MAX_PAUSE)
                    if error.code != "queue_full" or time.monotonic() + pause >= deadline:
                        raise
                await asyncio.sleep(pause)
    except TimeoutError:
        raise RequestFailedError("deadline_exceeded") from None
