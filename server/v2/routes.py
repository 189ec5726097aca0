"""The paths of the protocol; what it has no answer to (statistics, traces, shared memory) has no path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from server.body import read_body
from server.engine import Engine
from server.errors import ClientDisconnectedError, RequestFailedError
from server.guarded_route import GuardedRoute, Level
from server.package_version import package_version
from server.replies import JsonReply
from server.v2.infer import Infer
from server.v2.metadata import EXTENSIONS, NAME, describe_model, index_entry
from server.v2.schemas import VERSION, ServerMetadata

MAX_BODY_BYTES = 65_536
"""Of what the repository is told."""


def open_inference_routes(engine: Engine) -> list[GuardedRoute]:
    """All of them. A model has one version, which may be named."""
    routes = _Routes(engine)

    def route(path: str, endpoint: Callable[..., object], method: str, access: Level) -> GuardedRoute:
        return GuardedRoute(path, endpoint, methods=[method], access=access)

    of_model = [
        route(f"/v2/models/{{model_id}}{version}{suffix}", endpoint, method, "key")
        for version in ("", f"/versions/{VERSION}")
        for suffix, endpoint, method in (
            ("", routes.model, "GET"),
            ("/ready", routes.model_ready, "GET"),
            ("/infer", Infer(engine), "POST"),
        )
    ]
    return [
        route("/v2", routes.server, "GET", "key"),
        route("/v2/health/live", routes.live, "GET", "public"),
        route("/v2/health/ready", routes.ready, "GET", "public"),
        *of_model,
        route("/v2/repository/index", routes.index, "POST", "key"),
        route("/v2/repository/models/{model_id}/load", routes.load, "POST", "admin"),
        route("/v2/repository/models/{model_id}/unload", routes.unload, "POST", "admin"),
    ]


class _Routes:
    """All but inference."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = engine.registry

    async def server(self, request: Request) -> Response:
        """Who answers."""
        server = ServerMetadata(name=NAME, version=package_version(), extensions=EXTENSIONS)
        return JsonReply(server.model_dump())

    async def live(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        return JsonReply({"live": True})

    async def ready(self, request: Request) -> Response:
        """As `GET /readyz`."""
        is_ready = self._engine.health()["status"] == "ready"
        return JsonReply({"ready": is_ready}, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def model(self, request: Request) -> Response:
        """A model's tensors."""
        return JsonReply(describe_model(self._registry.find(request.path_params["model_id"])).model_dump())

    async def model_ready(self, request: Request) -> Response:
        """200, or 503 for one that does not serve now; inference loads it."""
        served = self._registry.find(request.path_params["model_id"])
        if not served.is_ready:
            code = "model_loading" if served.state == "loading" else "model_unavailable"
            raise RequestFailedError(code, served.model_id)
        return JsonReply({"name": served.model_id, "ready": True})

    async def index(self, request: Request) -> Response:
        """Every model that a request may name."""
        is_ready_only = (await self._fields(request)).get("ready") is True
        models = self._registry.models.values()
        return JsonReply([index_entry(served) for served in models if served.is_ready or not is_ready_only])

    async def load(self, request: Request) -> Response:
        """200 once it serves: clients of this protocol take everything else for an error."""
        served = self._registry.find(request.path_params["model_id"])
        if (await self._fields(request)).get("parameters"):  # other settings or files than the operator's
            raise RequestFailedError("invalid_parameter", "parameters")
        await self._registry.load(served)
        async with self._registry.use(served):
            return JsonReply({})

    async def unload(self, request: Request) -> Response:
        """200 once its processes are gone."""
        await self._registry.unload(self._registry.find(request.path_params["model_id"]))
        return JsonReply({})

    async def _fields(self, request: Request) -> Mapping[str, Any]:
        """The body's, which may be missing. Raises RequestFailedError."""
        with self._engine.budget.share() as share:
            try:
                body = await read_body(request.scope, request.receive, MAX_BODY_BYTES, share)
            except ClientDisconnectedError:
                raise RequestFailedError("malformed_request") from None  # nobody reads it
            except RequestFailedError as error:
                if error.code != "empty_body":
                    raise
                return {}
        try:
            fields = from_json(body)
        except ValueError:
            raise RequestFailedError("invalid_json") from None
        if not isinstance(fields, dict):
            raise RequestFailedError("invalid_request")
        return fields
