"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack

import httpx

from server.client import calls
from server.client.calls import Call, Options
from server.client.connection_options import connection_options
from server.client.errors import BusyError, UnreachableError
from server.client.exchange import Outcome, Patience, Pause, Step, exchange
from server.client.image import ImageLike, load_image
from server.reply_schemas import InferenceReply
from server.state_schemas import ModelReply

T = TypeVar("T")


class AsyncClient:
    """Asks the engine at `url`. Connections are kept; use it in an `async with`, or `aclose` it.

    `timeout` are the seconds that one call may take with all its attempts: a first call may wait for its model to load.
    Refusals that pass (429, 503) and broken connections are tried again, `retries` times, after what the server names
    in `Retry-After` or after growing pauses. Every call raises InferenceError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:5000",
        api_key: str | None = None,
        *,
        timeout: float = 150.0,
        retries: int = 8,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**connection_options(url, api_key), transport=transport)
        self._patience = Patience(timeout, retries)

    async def infer(
        self, image: ImageLike, model: str = "yolov8n", **options: Unpack[Options]
    ) -> InferenceReply:
        """What `model` says of one picture."""
        return await self.run(calls.infer(await _loaded(image), model, options))

    async def picture(
        self,
        image: ImageLike,
        model: str = "yolov8n",
        kind: Literal["jpeg", "png"] = "jpeg",
        **options: Unpack[Options],
    ) -> bytes:
        """The picture itself, with what `model` says of it drawn in."""
        return await self.run(calls.picture(await _loaded(image), model, kind, options))

    async def ask(
        self,
        image: ImageLike,
        question: str | Sequence[str],
        model: str = "blip-vqa-base",
        **options: Unpack[Options],
    ) -> InferenceReply:
        """`answer` to one question, `answers` to several."""
        name = "prompt" if isinstance(question, str) else "prompts"
        return await self.run(calls.infer(await _loaded(image), model, {**options, name: question}))

    async def caption(
        self, image: ImageLike, model: str = "blip-image-captioning-base", **options: Unpack[Options]
    ) -> InferenceReply:
        """`caption`; with `prompt` as its beginning."""
        return await self.infer(image, model, **options)

    async def models(self) -> Sequence[ModelReply]:
        """Every model that a request may name."""
        return await self.run(calls.models())

    async def model(self, model_id: str) -> ModelReply:
        """One of them."""
        return await self.run(calls.model(model_id))

    async def load(self, model_id: str) -> ModelReply:
        """Begin to load a model; returns at once."""
        return await self.run(calls.load(model_id))

    async def unload(self, model_id: str) -> ModelReply:
        """End a model's processes; returns when they are gone."""
        return await self.run(calls.unload(model_id))

    async def reload(self, model_id: str) -> ModelReply:
        """Read a model's weights anew; returns when they serve."""
        return await self.run(calls.reload(model_id))

    async def ready(self) -> bool:
        """Whether the server answers and its models serve."""
        return await self._says_yes("/readyz")

    async def live(self) -> bool:
        """Whether the server answers at all."""
        return await self._says_yes("/livez")

    async def run(self, call: Call[T]) -> T:
        """Make any call, with the attempts that it takes."""
        return await self._drive(call, self._patience)

    async def _says_yes(self, path: str) -> bool:
        try:
            return await self._drive(Call("GET", path, lambda response: True), self._patience.once())
        except (BusyError, UnreachableError):
            return False

    async def _drive(self, call: Call[T], patience: Patience) -> T:
        steps = exchange(call, patience)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
            outcome = await self._do(step)

    async def _do(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        call = step.call
        try:
            return await self._http.request(call.method, call.path, **call.content, timeout=step.timeouts)
        except httpx.RequestError as error:
            return error

    async def aclose(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


async def _loaded(image: ImageLike) -> bytes | str:
    """Files are read in a thread."""
    return image if isinstance(image, bytes) else await asyncio.to_thread(load_image, image)
