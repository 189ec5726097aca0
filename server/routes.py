"""The routes besides `POST /inference`: models, health, and the description of all this."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from server.docs import docs_page
from server.engine import Engine
from server.inference import Inference
from server.metrics import Metrics
from server.openapi import describe_api
from server.operators import check_is_local
from server.replies import JsonReply
from server.served import health_of


class Routes:
    """The endpoints of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = engine.registry
        description = describe_api()
        self._openapi = JsonReply(description)
        self._docs = docs_page(description)

    def table(self) -> list[Route]:
        """Path, endpoint, methods."""
        return [
            Route("/inference", Inference(self._engine), methods=["POST"]),
            Route("/models", self.list_models, methods=["GET"]),
            Route("/models/{model_id}", self.show_model, methods=["GET"]),
            Route("/models/{model_id}/load", self.load_model, methods=["POST"]),
            Route("/models/{model_id}/unload", self.unload_model, methods=["POST"]),
            Route("/models/{model_id}/reload", self.reload_model, methods=["POST"]),
            Route("/healthz", self.readiness, methods=["GET"]),
            Route("/readyz", self.readiness, methods=["GET"]),
            Route("/livez", self.liveness, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/docs", self.docs, methods=["GET"]),
        ]

    async def list_models(self, request: Request) -> Response:
        """Every model that a request may name."""
        return JsonReply({"models": [served.describe() for served in self._registry.models.values()]})

    async def show_model(self, request: Request) -> Response:
        """One model."""
        return JsonReply(self._registry.find(request.path_params["model_id"]).describe())

    async def load_model(self, request: Request) -> Response:
        """Begin to load: 200 if it serves already, else 202."""
        check_is_local(request)
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.load(served)
        return JsonReply(served.describe(), HTTPStatus.OK if served.is_ready else HTTPStatus.ACCEPTED)

    async def unload_model(self, request: Request) -> Response:
        """Drain and end its processes; replies when they are gone."""
        check_is_local(request)
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.unload(served)
        return JsonReply(served.describe())

    async def reload_model(self, request: Request) -> Response:
        """Replies when requests get the new weights; for a model that is not loaded the same as a load."""
        check_is_local(request)
        served = self._registry.find(request.path_params["model_id"])
        await self._registry.reload(served)
        return JsonReply(served.describe(), HTTPStatus.OK if served.is_ready else HTTPStatus.ACCEPTED)

    async def readiness(self, request: Request) -> Response:
        """200 if every required model has a replica that serves, images can be decoded and the server is not stopping;
        else 503."""
        is_stopping = self._registry.is_stopping or self._engine.is_leaving
        health = health_of(self._registry.models.values(), is_stopping=is_stopping)
        if health["status"] == "ready" and not self._engine.decoder.is_ready:
            health["status"] = "loading"
        return JsonReply(
            health, HTTPStatus.OK if health["status"] == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
        )

    async def liveness(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        return JsonReply({"status": "live"})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._engine.metrics.render(), media_type=Metrics.MEDIA_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The description for programs."""
        return self._openapi

    async def docs(self, request: Request) -> Response:
        """The same for people."""
        return HTMLResponse(self._docs)
