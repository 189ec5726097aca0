"""`inference-engine serve`: the socket first, so that a port in use is said at once; then uvicorn around the app."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette

from server.app import create_app
from server.descriptors import raise_limit
from server.devices import NoSuchDeviceError
from server.engine import Engine
from server.gate import Gate
from server.leaving import Leaving
from server.listener import listen
from server.log import configure_log
from server.operators import is_loopback
from server.settings import Settings
from server.settings_load import EXIT_CONFIG, SettingsError

KEEP_ALIVE_TIMEOUT = 75
"""Whole seconds, longer than the minute for which proxies usually keep idle connections: who closes second never
sends a request into a connection that is gone."""
EXIT_UNAVAILABLE = 75
"""EX_TEMPFAIL of sysexits.h: starting again, perhaps elsewhere, may help."""
log = logging.getLogger(__name__)
SAMPLE = Path("models/demo/samples/sample.jpg")


def serve(settings: Settings, make_app: Callable[[Settings], Starlette] = create_app) -> int:
    """Run until a signal; the exit code. `make_app` replaces what is served, for tests and benches."""
    configure_log(settings.log_format, settings.log_level)
    try:
        app = make_app(settings)
        engine: Engine = app.state.engine
    except (SettingsError, NoSuchDeviceError) as error:
        print(f"inference-engine: {error}", file=sys.stderr)
        return EXIT_CONFIG
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host} port {settings.port}"
        print(f"inference-engine: cannot listen on {where}: {error.strerror or error}", file=sys.stderr)
        return EXIT_CONFIG
    needs_key = settings.keys_file is not None
    if not needs_key:
        warn_if_open(*listener.getsockname()[:2])
    gate = Gate(settings, engine.metrics, raise_limit(settings.max_connections))
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", gate),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # middleware.py writes one line per request
        server_header=False,
        proxy_headers=False,  # anybody could say to be on this machine
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )
    address = base_url(listener)
    server = Leaving(
        config, settings.lame_duck, lambda: print(welcome(address, needs_key), flush=True), engine.leave
    )
    engine.registry.on_given_up = lambda: server.give_up(EXIT_UNAVAILABLE)
    # uvicorn puts these back when it is done and raises the signal again; with its own it ends with code 0 then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
    return server.exit_code


def warn_if_open(host: str, port: int) -> None:
    """Where there are no keys: say so if others than this machine can reach the socket."""
    if not is_loopback(host):
        log.warning(
            "NO API KEYS: whoever reaches %s port %d may ask; `inference-engine key NAME` makes a key",
            host,
            port,
        )


def base_url(listener: socket.socket) -> str:
    """Where a client on this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def welcome(address: str, needs_key: bool = False) -> str:
    """What is printed once the server listens: its address, something to try, something to read."""
    sample = Path(__file__).resolve().parent.parent / SAMPLE
    if sample.is_relative_to(Path.cwd()):  # else the whole path, so that the line can be pasted as it is
        sample = sample.relative_to(Path.cwd())
    key = "-H 'Authorization: Bearer KEY' " if needs_key else ""
    return (
        f"Listening on {address}\n"
        f"Try it:  curl {key}-F model_id=shapes-detect -F image=@{sample} {address}/inference\n"
        f"Look:    {address}/\n"
        f"Read on: {address}/docs"
    )
