"""The client for code that waits."""

from __future__ import annotations

import time
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


class Client:
    """Asks the engine at `url`. Connections are kept; use it in a `with`, or `close` it. Safe in threads.

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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**connection_options(url, api_key), transport=transport)
        self._patience = Patience(timeout, retries)

    def infer(self, image: ImageLike, model: str = "yolov8n", **options: Unpack[Options]) -> InferenceReply:
        """What `model` says of one picture."""
        return self.run(calls.infer(load_image(image), model, options))

    def picture(
        self,
        image: ImageLike,
        model: str = "yolov8n",
        kind: Literal["jpeg", "png"] = "jpeg",
        **options: Unpack[Options],
    ) -> bytes:
        """The picture itself, with what `model` says of it drawn in."""
        return self.run(calls.picture(load_image(image), model, kind, options))

    def ask(
        self,
        image: ImageLike,
        question: str | Sequence[str],
        model: str = "blip-vqa-base",
        **options: Unpack[Options],
    ) -> InferenceReply:
        """`answer` to one question, `answers` to several."""
        name = "prompt" if isinstance(question, str) else "prompts"
        return self.run(calls.infer(load_image(image), model, {**options, name: question}))

    def caption(
        self, image: ImageLike, model: str = "blip-image-captioning-base", **options: Unpack[Options]
    ) -> InferenceReply:
        """`caption`; with `prompt` as its beginning."""
        return self.infer(image, model, **options)

    def models(self) -> Sequence[ModelReply]:
        """Every model that a request may name."""
        return self.run(calls.models())

    def model(self, model_id: str) -> ModelReply:
        """One of them."""
        return self.run(calls.model(model_id))

    def load(self, model_id: str) -> ModelReply:
        """Begin to load a model; returns at once."""
        return self.run(calls.load(model_id))

    def unload(self, model_id: str) -> ModelReply:
        """End a model's processes; returns when they are gone."""
        return self.run(calls.unload(model_id))

    def reload(self, model_id: str) -> ModelReply:
        """Read a model's weights anew; returns when they serve."""
        return self.run(calls.reload(model_id))

    def ready(self) -> bool:
        """Whether the server answers and its models serve."""
        return self._says_yes("/readyz")

    def live(self) -> bool:
        """Whether the server answers at all."""
        return self._says_yes("/livez")

    def run(self, call: Call[T]) -> T:
        """Make any call, with the attempts that it takes."""
        return self._drive(call, self._patience)

    def _says_yes(self, path: str) -> bool:
        try:
            return self._drive(Call("GET", path, lambda response: True), self._patience.once())
        except (BusyError, UnreachableError):
            return False

    def _drive(self, call: Call[T], patience: Patience) -> T:
        steps = exchange(call, patience)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                answer: T = done.value
                return answer
            outcome = self._do(step)

    def _do(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        call = step.call
        try:
            return self._http.request(call.method, call.path, **call.content, timeout=step.timeouts)
        except httpx.RequestError as error:
            return error

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
