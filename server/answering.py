"""What every protocol asks of the engine: one request in, one answer out. Nothing scarce is held while anybody is slow:
the image comes first, then the model, then a slot. Knows nothing of bodies, headers and replies."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from models.spec import Spec, Task
from pool import Pool
from server import schemas
from server.body import BodyShare
from server.decode import Decoded
from server.engine import Engine
from server.errors import RequestFailedError
from server.intake import InferenceRequest
from server.response_cache import ContentKey
from server.results import Answered, Timings
from server.sharing import content_digest
from server.sketch import PictureKind, Sketch

if TYPE_CHECKING:
    from server.fetch import Fetcher


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Options and prompts, checked against a task."""

    task: Task
    parameters: schemas.Parameters
    prompt: str | None
    prompts: Sequence[str] | None

    def to_params(self, decoded: Decoded) -> dict[str, Any]:
        """What the worker gets with the pixels; the size is the upright original's."""
        params = {"width": decoded.width, "height": decoded.height, **self.parameters.model_dump()}
        given = {"prompt": self.prompt, "prompts": self.prompts, "image_key": decoded.key}
        return params | {name: value for name, value in given.items() if value is not None}

    @property
    def question(self) -> bytes:
        """All of it as JSON: what must be equal, beside the image, for the answer to be."""
        parameters = self.parameters.model_dump()
        return orjson.dumps([self.task, self.prompt, self.prompts, parameters], option=orjson.OPT_SORT_KEYS)

    @property
    def cost(self) -> int:
        """In rows of a batch."""
        return len(self.prompts or [""])

    @property
    def batch_key(self) -> str:
        """What must be equal inside a batch: generation runs all rows at once."""
        if isinstance(self.parameters, schemas.TextParameters):
            return f"{self.parameters.max_new_tokens}/{self.parameters.num_beams}"
        return ""


@dataclass(frozen=True, slots=True)
class _Image:
    """Bytes, or base64 text, and the seconds it took to fetch them."""

    encoded: bytes | str
    fetch_seconds: float = 0.0


class Answering:
    """The only way from a protocol to a pool."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def admit(self, model_id: str, state: MutableMapping[str, Any]) -> None:
        """Refuse what cannot be answered before anything is spent on it; note the model in the request's `state`.
        Raises RequestFailedError."""
        registry = self._engine.registry
        served = registry.find(model_id)
        state["model_id"] = model_id
        registry.admit(served, time.monotonic() + self._engine.settings.deadline)

    async def answer(
        self,
        request: InferenceRequest,
        share: BodyShare,
        state: MutableMapping[str, Any],
        kind: PictureKind | None = None,
    ) -> Answered:
        """The answer to one admitted request, whose image's bytes `share` holds. What the log, the metrics and traces
        say of it is put into its `state`, which has `started_at`, a `time.monotonic` moment. With `kind` the answer
        is drawn on the image too, and encoded as that.

        To be called inside `cancelled_on_disconnect`. Raises RequestFailedError.
        """
        registry = self._engine.registry
        served = registry.find(request.model_id)
        deadline = time.monotonic() + self._engine.settings.deadline
        fetcher = await self._fetcher_for(request)
        inputs = _check(served.known.task, request) if served.known.task else None
        image = await self._image(request, fetcher, share, state.get("key_id") or "")
        async with registry.use(served) as pool:
            spec = served.spec
            assert spec is not None, "a pool that may be used has told its spec"
            inputs = inputs or _check(spec.task, request)
            schemas.check_classes(inputs.parameters, spec)
            answered = await self._infer(pool, spec, inputs, image, share)
        if kind is not None:
            share.hold(len(image.encoded))  # a run that is shared has taken it over
            answered = await self._drawn(answered, image.encoded, kind, deadline)
        state["batch_size"] = answered.result.batch_size
        if answered.origin:
            state["cache"] = answered.origin
        answered.timings.seconds["total"] = time.monotonic() - state["started_at"]
        state["stages"] = answered.timings.seconds
        self._engine.metrics.observe_stages(served.model_id, answered.timings.seconds)
        return answered

    async def _drawn(
        self, answered: Answered, encoded: bytes | str, kind: PictureKind, deadline: float
    ) -> Answered:
        """With its picture. The model's slot was given back already."""
        started = time.monotonic()
        sketch = Sketch(kind, answered.result.payload, answered.size)
        picture = await self._engine.decoder.draw(encoded, sketch, deadline)
        answered.timings.seconds["draw"] = time.monotonic() - started
        return replace(answered, picture=picture)

    async def _image(
        self, request: InferenceRequest, fetcher: Fetcher | None, share: BodyShare, owner: str
    ) -> _Image:
        """A slow origin holds no model, no slot, and nothing that a request with its image in it waits for."""
        if fetcher is None or request.image_url is None:
            assert request.encoded is not None, "one of the two there is"
            return _Image(request.encoded)
        started = time.monotonic()
        metrics = self._engine.metrics
        try:
            encoded = await fetcher.fetch(
                request.image_url, share.grow, self._engine.settings.deadline, owner
            )
        except RequestFailedError as error:
            metrics.count_fetch(error.subject if error.code == "image_fetch_failed" else error.code)
            raise
        metrics.count_fetch("ok")
        return _Image(encoded, time.monotonic() - started)

    async def _infer(
        self, pool: Pool, spec: Spec, inputs: _Inputs, image: _Image, share: BodyShare
    ) -> Answered:
        deadline = time.monotonic() + self._engine.settings.deadline - image.fetch_seconds
        encoded = image.encoded

        async def run(entry_deadline: float) -> Answered:
            with share.moved():  # a run that is shared may outlast this request
                return await self._run(pool, spec, inputs, encoded, (deadline, entry_deadline))

        sharing = self._engine.sharing
        if sharing is None:
            answered = await self._run(pool, spec, inputs, encoded, (deadline, deadline))
        else:
            decoder = self._engine.decoder
            digest = await decoder.run(content_digest, inputs.question, encoded, decoder.limits.max_bytes)
            answered = await sharing.answer(ContentKey(pool, digest), run, deadline)
        answered.timings.seconds["fetch"] = image.fetch_seconds
        return answered

    async def _run(
        self, pool: Pool, spec: Spec, inputs: _Inputs, encoded: bytes | str, deadlines: tuple[float, float]
    ) -> Answered:
        """From slot to result. `deadlines`: until when it must be likely to be answered, and that of its entry."""
        admission_deadline, deadline = deadlines
        timings = Timings()
        with await pool.lease(admission_deadline) as lease:
            started = time.monotonic()
            decoded = await self._engine.decoder.decode_into(
                lease.pixels, encoded, spec.resize, spec.family == "blip", deadline
            )
            timings.seconds["decode"] = time.monotonic() - started
            result = await pool.infer(
                lease,
                inputs.to_params(decoded),
                deadline,
                inputs.batch_key,
                cost=inputs.cost,
                affinity=decoded.key or "",
            )
        timings.add(result.timings)
        if spec.family == "blip":
            self._engine.metrics.count_vision(spec.model_id, result.payload)
        return Answered(spec.model_id, inputs.task, (decoded.width, decoded.height), result, timings)

    async def _fetcher_for(self, request: InferenceRequest) -> Fetcher | None:
        """None for a request that brings its image; its address is looked at before anything is spent on it."""
        if request.image_url is None:
            return None
        fetcher = await self._engine.fetcher()
        if fetcher is None:
            raise RequestFailedError("image_url_disabled")
        fetcher.check(request.image_url)
        return fetcher


def _check(task: Task, request: InferenceRequest) -> _Inputs:
    schemas.check_prompts(task, request.prompt, request.prompts)
    parameters = schemas.parse_parameters(task, request.parameters, is_text=request.is_text)
    schemas.check_work(parameters, request.prompts)
    return _Inputs(task, parameters, request.prompt, request.prompts)
