"""The routes besides `POST /inference`: models, health, and the description of all this."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from server.access import NOBODY
from server.access_description import describe_access
from server.chat.completions import ChatCompletions
from server.chat.models import ChatModels
from server.docs import docs_routes
from server.engine import Engine
from server.guarded_route import GuardedRoute, Level
from server.inference import Inference
from server.list_inference import ListInference
from server.metrics import Metrics
from server.openapi import describe_api
from server.replies import JsonReply
from server.v2.routes import open_inference_routes


class Routes:
    """The endpoints of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = engine.registry
        description = describe_api(engine.settings)
        describe_access(description, self.table(), engine.settings)
        self._openapi = JsonReply(description)

    def table(self) -> list[GuardedRoute]:
        """Path, endpoint, methods, and who may use it."""
        settings = self._engine.settings
        metrics: Level = "public" if settings.public_metrics else "key"
        docs: Level = "public" if settings.public_docs else "key"
        inference = Inference(self._engine)
        chat, chat_models = ChatCompletions(self._engine), ChatModels(self._registry)
        return [
            GuardedRoute("/inference", inference, methods=["POST"], access="key"),
            GuardedRoute("/inference/batch", ListInference(self._engine), methods=["POST"], access="key"),
            GuardedRoute("/models", self.list_models, methods=["GET"], access="key"),
            GuardedRoute("/models/{model_id}", self.show_model, methods=["GET"], access="key"),
            GuardedRoute("/models/{model_id}/load", self.load_model, methods=["POST"], access="admin"),
            GuardedRoute("/models/{model_id}/unload", self.unload_model, methods=["POST"], access="admin"),
            GuardedRoute("/models/{model_id}/reload", self.reload_model, methods=["POST"], access="admin"),
            GuardedRoute("/v1/chat/completions", chat, methods=["POST"], access="key"),
            GuardedRoute("/v1/models", chat_models.list_models, methods=["GET"], access="key"),
            GuardedRoute("/v1/models/{model_id}", chat_models.show_model, methods=["GET"], access="key"),
            GuardedRoute("/healthz", self.readiness, methods=["GET"], access="public"),
            GuardedRoute("/readyz", self.readiness, methods=["GET"], access="public"),
            GuardedRoute("/livez", self.liveness, methods=["GET"], access="public"),
            GuardedRoute("/metrics", self.metrics, methods=["GET"], access=metrics),
            GuardedRoute("/openapi.json", self.openapi, methods=["GET"], access=docs),
            *docs_routes(docs),
            *open_inference_routes(self._engine),
        ]

    async def list_models(self, request: Request) -> Response:
        """Every model that a request may name."""
        return JsonReply({"models": [served.describe() for served in self._registry.models.values()]})

    async def show_model(self, request: Request) -> Response:
        """One model."""
        return JsonReply(self._registry.find(request.path_params["model_id"]).describe())

    async def load_model(self, request: Request) -> Response:
        """Begin to load: 200 if it serves already, else 202."""
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.load(served)
        return JsonReply(served.describe(), HTTPStatus.OK if served.is_ready else HTTPStatus.ACCEPTED)

    async def unload_model(self, request: Request) -> Response:
        """Drain and end its processes; replies when they are gone."""
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.unload(served)
        return JsonReply(served.describe())

    async def reload_model(self, request: Request) -> Response:
        """Replies when requests get the new weights; for a model that is not loaded the same as a load."""
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.reload(served)
        return JsonReply(served.describe(), HTTPStatus.OK if served.is_ready else HTTPStatus.ACCEPTED)

    async def readiness(self, request: Request) -> Response:
        """200 if every required model has a replica that serves, images can be decoded and the server is not stopping;
        else 503. Where there are keys, who gives none learns nothing of the models."""
        health = self._engine.health()
        status = HTTPStatus.OK if health["status"] == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
        is_stranger = request.scope["state"].get("role") == NOBODY
        return JsonReply({"status": health["status"]} if is_stranger else health, status)

    async def liveness(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        return JsonReply({"status": "live"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(await self._engine.scrape.page(), media_type=Metrics.MEDIA_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The description; `/docs` shows it to people."""
        return self._openapi
