"""The real server with fake models: `inference-engine serve` in everything but where its models come from.

python -m bench.chaos.front '{"models": {"fake": {"seconds": 0.02}}, "folder": "..."}'
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from models.catalogue import CatalogueEntry
from pool import Launcher, Limits, Placement, Pool
from server.app import create_app
from server.engine import Engine
from server.serving import serve
from server.settings import Settings
from server.table import Known


@dataclass(frozen=True)
class Plan:
    """What is served. `models` maps names to what `bench.chaos.model.load` is told; `leaks` keeps every request."""

    folder: str
    models: Mapping[str, Mapping[str, Any]]
    replicas: int = 2
    side: int = 32
    limits: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    leaks: bool = False


class FakeEngine(Engine):
    """With a forkserver of its own for each model, so that each one's processor time can be told apart."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._plan = plan
        self.launchers = {name: Launcher(preload=["bench.chaos.model"]) for name in plan.models}
        known = {name: _known(name, config) for name, config in plan.models.items()}
        super().__init__(settings, known, self._make_pool)

    def _make_pool(self, known: Known) -> Pool:
        plan, name = self._plan, known.entry.model_id
        config = {
            "model_id": name,
            "folder": plan.folder,
            "side": plan.side,
            "seconds": 0.0,
            **plan.models[name],
        }
        limits = Limits(**plan.limits)
        placements = [Placement()] * plan.replicas
        return Pool(name, "bench.chaos.model:load", config, placements, self.launchers[name], limits)

    async def stop(self) -> None:
        """As the real one, and the forkservers."""
        await super().stop()
        for launcher in self.launchers.values():
            launcher.close()

    async def describe(self, request: Request) -> JSONResponse:
        """What a census cannot see from outside."""
        pools = {
            name: served.pool for name, served in self.registry.models.items() if served.pool is not None
        }
        return JSONResponse(
            {
                "num_tasks": len(asyncio.all_tasks()),
                "body_bytes": self.budget.num_bytes,
                "counters": {name: pool.counters for name, pool in pools.items()},
                "forkservers": {name: launcher.pid for name, launcher in self.launchers.items()},
            }
        )


def _known(name: str, config: Mapping[str, Any]) -> Known:
    entry = CatalogueEntry(name, "yolo", "detect", "file", "none", "A fake.")
    starts = config.get("loads_at_start", True)
    return Known(entry, is_listed=True, loads_at_start=starts, replicas="auto", task="detect")


class Leaks:
    """A bug on purpose: keeps a reference to every request."""

    kept: ClassVar[list[Scope]] = []

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve and remember."""
        self.kept.append(scope)
        await self._app(scope, receive, send)


def main() -> int:
    """Entry point: the plan as JSON."""
    plan = Plan(**json.loads(sys.argv[1]))

    def make_app(settings: Settings) -> Starlette:
        engine = FakeEngine(settings, plan)
        app = create_app(settings, engine)
        app.router.routes.append(Route("/chaos", engine.describe))
        if plan.leaks:
            app.add_middleware(Leaks)
        return app

    defaults = {"port": 0, "device": "cpu", "lame_duck": 0.0, "log_format": "json"}
    return serve(Settings(**{**defaults, **plan.settings}), make_app)


if __name__ == "__main__":
    sys.exit(main())
