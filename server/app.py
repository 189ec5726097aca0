"""The ASGI application: routes, what is around them, and the life of the engine."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from server.access import Access
from server.cors import Cors, Preflights
from server.engine import Engine
from server.errors import RequestFailedError
from server.guarded_route import GuardedRoute, open_paths
from server.keys import REREAD_INTERVAL, Keys
from server.log import configure_log
from server.loop_guard import LoopGuard
from server.middleware import RequestScope
from server.rate_limit import RateLimit
from server.replies import ErrorReply
from server.routes import Routes
from server.settings import Settings
from server.settings_load import SettingsError, load_settings, web_concurrency

log = logging.getLogger(__name__)

STARTUP_FAILURE = 3
"""The exit code with which a worker tells uvicorn's supervisor not to start it again."""


def create_app(settings: Settings | None = None, engine: Engine | None = None) -> Starlette:
    """The application. Without `settings` (``uvicorn --factory``) they are read here.

    Raises SettingsError (of the keys file: KeysError) and NoSuchDeviceError; exits where uvicorn runs several
    workers, because each would load every model again.
    """
    if settings is None:
        settings = engine.settings if engine is not None else _settings_under_foreign_server()
    keys = Keys(settings.keys_file, REREAD_INTERVAL) if settings.keys_file is not None else None
    engine = engine or Engine(settings)
    routes = Routes(engine).table()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if keys is not None:
            keys.start()
        engine.start()
        try:
            yield
        finally:
            await engine.stop()
            if keys is not None:
                keys.stop()

    app = Starlette(
        routes=routes,
        middleware=_middleware(engine, keys, routes),
        exception_handlers={RequestFailedError: _on_failed, HTTPException: _on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would send clients wherever their own Host header says
    app.state.engine = engine
    return app


def _middleware(engine: Engine, keys: Keys | None, routes: Sequence[GuardedRoute]) -> list[Middleware]:
    """Outermost first. Nothing of access is there that the settings do not ask for."""
    settings = engine.settings
    around = [
        Middleware(
            RequestScope, metrics=engine.metrics, is_leaving=lambda: engine.is_leaving, tracer=engine.tracer
        ),
        Middleware(LoopGuard),
    ]
    if settings.cors_origins:
        around = [Middleware(Cors, origins=settings.cors_origins), *around, Middleware(Preflights)]
    if keys is not None or settings.rate_limit:
        limit = RateLimit(settings.rate_limit, settings.rate_limit_burst)
        around.append(Middleware(Access, keys=keys, limit=limit, open_paths=open_paths(routes)))
    return around


async def _on_failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestFailedError)
    return ErrorReply(error, request.scope)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own: an unknown path, or a known one with another method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
        failed = RequestFailedError("method_not_allowed", headers={"allow": ", ".join(allowed)})
    else:
        failed = RequestFailedError("not_found")
    return ErrorReply(failed, request.scope)


def _settings_under_foreign_server() -> Settings:
    try:
        settings = load_settings()
    except SettingsError as error:
        configure_log("auto", "info")
        for line in error.lines:
            log.critical("%s", line)
        raise SystemExit(STARTUP_FAILURE) from None
    configure_log(settings.log_format, settings.log_level)
    if num_front_processes(sys.argv, web_concurrency()) > 1:
        log.critical("one front process serves all models: set replicas, not --workers")
        raise SystemExit(STARTUP_FAILURE)
    log.warning(
        "not started by `inference-engine serve`: host, port, drain_timeout and the limits of connections are the "
        "server's own"
    )
    return settings


def num_front_processes(arguments: Sequence[str], default: int) -> int:
    """What uvicorn's or gunicorn's command line says of workers (they see it too), else `default`."""
    for position, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--workers", "-w"):
            value = value or next(iter(arguments[position + 1 :]), "")
            return int(value) if value.isdigit() else default
    return default
