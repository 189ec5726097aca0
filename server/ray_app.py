"""The same app as a Ray Serve deployment: `serve run server.ray_app:app`. One replica there is one whole engine.

    Ray's proxy ──▶ replica: an actor process of Ray
                      Behind (what a foreign proxy makes untrue is taken away) ──▶ create_app(...) as anywhere
                      forkserver and workers as anywhere, on the GPUs and cores that Ray assigned

Ray runs `create_app` in a thread with an event loop of its own. Needs the extra `ray`; no other module imports this.
"""

# No `from __future__ import annotations`: Ray gives `build` its arguments as the class that it is annotated with, and a
# plain dict where the annotation is a string.
import asyncio
import contextlib
import logging
import math
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pool import CoreBudget, usable_cores
from server.app import create_app
from server.engine import Engine
from server.log import configure_log
from server.ray_arguments import EngineArguments, deployment_options
from server.ray_cores import Cores
from server.ray_metrics import RayMetrics
from server.settings import Settings
from server.settings_load import load_settings

OOM_SCORE_ABOVE_RAY = 100
SETTLE_INTERVAL = 0.05
MAX_ROUTED_MODELS: int = Settings.model_fields["max_loaded_models"].default
log = logging.getLogger(__name__)


class RayEngine:
    """One engine as Ray's replica. Every method runs on the event loop that Ray made for it (one that is not `async`
    and is called later would run in a thread)."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """`given` are settings as on the command line; those of this machine's environment and file come below."""
        self._given = dict(given)
        self._engine: Engine | None = None
        self._cores: Cores | None = None
        self._is_given_up = False
        self._has_served = False

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called once, by Ray. Raises SettingsError, KeysError, NoSuchDeviceError: the replica does not start."""
        context: Any = ray.get_runtime_context()  # half of it is untyped
        num_cpus = context.get_assigned_resources().get("CPU", 0.0)
        cores = usable_cores()
        if num_cpus:
            cores = self._take(num_cpus, cores)
        settings = load_settings(self._given | gpus_of(context.get_accelerator_ids()))
        configure_log(settings.log_format, settings.log_level)
        spare_front()
        if num_cpus:
            assigned = {"num_cores": cores.num_cores, "cores": cores.numbers}
            shared = {"num_shared": self._cores.num_shared if self._cores else 0}
            log.info("assigned by Ray", extra={**assigned, **shared, "gpus": settings.cuda_visible_devices})
        engine = Engine(settings, cores=cores)
        app = create_app(settings, engine)
        engine.registry.on_given_up = self._give_up
        self._engine = engine
        wrap_lifespan(app, engine)
        return Behind(app, self)

    def _take(self, num_cpus: float, usable: CoreBudget) -> CoreBudget:
        """As many as Ray assigned, pinned to where `usable` has numbers. Claims reach no further than a container, so
        under a CPU quota another one's engine could claim the same."""
        if not usable.numbers:
            return CoreBudget(min(math.ceil(num_cpus), usable.num_cores))
        self._cores = Cores(num_cpus, usable.numbers)
        self._cores.pin()
        return CoreBudget.of(self._cores.numbers)

    def _give_up(self) -> None:
        self._is_given_up = True

    async def check_health(self) -> None:
        """Raises RuntimeError where a new replica is the cure: no required model has had a worker that lives, or its
        device, for `give_up_after` seconds. Not while models load, and not for weights that go missing.

        Before its first answer a replica is nothing that others could be ended for: then each required model must
        be ready. Ray tells what is raised in `serve status`, tries again a few times, and ends a rollout there.
        """
        assert self._engine is not None
        if not self._has_served and (missing := missing_models(self._engine)):
            raise RuntimeError(f"required models cannot be served: {', '.join(missing)}")
        self._has_served = True
        if self._is_given_up:
            raise RuntimeError("no required model can be served here any more")

    @serve.multiplexed(max_num_models_per_replica=MAX_ROUTED_MODELS)  # type: ignore[untyped-decorator]
    async def note_model(self, model_id: str) -> str:
        """Tell Ray that requests for this model are best sent here. The engine itself loads it and lets it go."""
        return model_id

    def knows(self, model_id: str) -> bool:
        """Whether there is such a model."""
        return self._engine is not None and model_id in self._engine.registry.models


class Behind:
    """What is different behind Ray's proxy."""

    def __init__(self, app: ASGIApp, engine: RayEngine) -> None:
        self._app = app
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The peer is a proxy, perhaps on this machine: nobody is taken for a local operator because of it. The proxy
        puts the request's id into the reply, and has put one into the request where there was none."""

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        model_id = serve.get_multiplexed_model_id()
        if model_id and self._engine.knows(model_id):  # what Ray remembers of models stays bounded
            await self._engine.note_model(model_id)

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
            await send(message)

        await self._answer({**scope, "client": None}, receive, send_without_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ray cancels the request of a client that has left, which elsewhere only a server does that stops: the app
        reads of it instead."""
        left = asyncio.get_running_loop().create_future()

        async def receive_or_left() -> Message:
            reading = asyncio.ensure_future(receive())
            try:
                await asyncio.wait([reading, left], return_when=asyncio.FIRST_COMPLETED)
                return {"type": "http.disconnect"} if left.done() else reading.result()
            finally:
                reading.cancel()

        answering = asyncio.ensure_future(self._app(scope, receive_or_left, send))
        try:
            await asyncio.shield(answering)
        except asyncio.CancelledError:
            left.set_result(None)
            await asyncio.gather(answering, return_exceptions=True)
            raise


def wrap_lifespan(app: Starlette, engine: Engine) -> None:
    """Start: Ray sends requests to who has started, so that ends when every required model is ready or cannot be.
    Stop: Ray has let the replica's requests finish; what is left is finished by the engine's own drain."""
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with inner(app):
            carrying = asyncio.create_task(RayMetrics(engine.scrape).run(), name="ray-metrics")
            try:
                while not is_settled(engine):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(SETTLE_INTERVAL)
                yield
            finally:
                engine.leave()
                carrying.cancel()
                await asyncio.wait([carrying])

    app.router.lifespan_context = lifespan


def is_settled(engine: Engine) -> bool:
    """Whether each required model is ready, or has failed in a way that waiting does not mend."""
    required = [served for served in engine.registry.models.values() if served.is_required]
    return all(
        served.is_ready or served.failure is not None or served.state == "crash_looping"
        for served in required
    )


def missing_models(engine: Engine) -> list[str]:
    """Required models that are not ready, with what was said of the last try."""
    required = [served for served in engine.registry.models.values() if served.is_required]
    return [
        f"{served.model_id} ({served.failure.code if served.failure is not None else served.state})"
        for served in required
        if not served.is_ready
    ]


def spare_front(proc: Path = Path("/proc")) -> None:
    """Ray tells the kernel to kill replicas first of all (1000) when memory is short. Of an engine that is to be the
    worker of a model, which asks for 500 and is replaced in a moment: so the front is little above Ray itself. Ray's
    own memory monitor knows of no workers but its own, and has to be off for that."""
    try:
        of_ray = int((proc / str(os.getppid()) / "oom_score_adj").read_text())
        (proc / "self" / "oom_score_adj").write_text(str(min(of_ray + OOM_SCORE_ABOVE_RAY, 1000)))
    except OSError as error:  # its user may not: then the kernel's choice has to do
        log.info("the front is killed no later than its workers: %s", error.strerror)


def gpus_of(accelerators: Mapping[str, list[str]]) -> dict[str, str]:
    """The setting that lets the engine see the GPUs that Ray assigned; none if it assigned none."""
    return {"cuda_visible_devices": ",".join(accelerators.get("GPU", []))}


def build(arguments: EngineArguments) -> serve.Application:
    """The deployment. Settings are checked here and read again by each replica, on its own machine.

    Raises SettingsError.
    """
    return deployment_of(RayEngine, arguments)


def deployment_of(engine: type[RayEngine], arguments: EngineArguments) -> serve.Application:
    """The same around another class, for tests."""
    settings = load_settings(arguments.given_settings)
    options = deployment_options(arguments, settings)
    # Without an app: Ray asks the class for one in the replica (`__serve_build_asgi_app__`).
    ingress = cast(Any, serve.ingress)()(engine)
    deployment = serve.deployment(name="Engine", **options)(ingress)
    return deployment.bind(arguments.given_settings)


def __getattr__(name: str) -> Any:
    """`app`, made when it is asked for: importing this module reads no settings."""
    if name == "app":
        return build(EngineArguments())
    raise AttributeError(name)
