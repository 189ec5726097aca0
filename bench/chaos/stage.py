"""Where a run plays: a server, the model that is asked, and what its requests are made of."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos.questions import NumberedPictures, Source, ask_calmly
from bench.serving import RunningServer, start_process

MODEL = "fake"
REAL_MODEL = "shapes-detect"
SIDE = 32


@dataclass(frozen=True)
class Stage:
    """`folder` holds orders and fault log; None with a real model."""

    server: RunningServer
    model: str
    folder: Path | None
    num_replicas: int

    async def source(self, num_pictures: int = 64, poison_every: int = 0) -> Source:
        """The fake model has a new picture for each request, the real one `num_pictures` that go round."""
        if self.folder is None:
            return await ask_calmly(self.server.url, self.model, num_pictures)
        return NumberedPictures(self.server.url, self.model, SIDE, poison_every)

    @property
    def counters(self) -> dict[str, int]:
        """The pool's; {} where the server does not tell."""
        if self.folder is None:
            return {}
        counters: dict[str, int] = self.server.get("/chaos")["counters"][self.model]
        return counters

    @property
    def num_deaths(self) -> int:
        """Of all workers so far, except those that were asked to end."""
        return sum(replica["deaths"] for replica in self.server.get(f"/models/{self.model}")["replicas"])


@contextmanager
def fake_stage(models: Mapping[str, Mapping[str, Any]] | None = None, **plan: Any) -> Iterator[Stage]:
    """The real server with fake models; it must stop cleanly at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = {"folder": name, "models": models or {MODEL: {"seconds": 0.02}}, "side": SIDE, **plan}
        command = [sys.executable, "-m", "bench.chaos.front", json.dumps(chosen)]
        with start_process(command) as server:
            yield Stage(server, next(iter(chosen["models"])), folder, chosen.get("replicas", 2))
            _stop(server)


@contextmanager
def real_stage(*options: str, num_replicas: int = 2) -> Iterator[Stage]:
    """`inference-engine serve` with the demo detector; it must stop cleanly at the end."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--lame-duck", "0"]
    command += [
        "--load-at-start",
        REAL_MODEL,
        "--replicas",
        str(num_replicas),
        "--log-format",
        "json",
        *options,
    ]
    with start_process(command) as server:
        yield Stage(server, REAL_MODEL, None, num_replicas)
        _stop(server)


def _stop(server: RunningServer) -> None:
    if (code := server.stop()) != 0:
        raise RuntimeError(f"the server ended with {code}: {server.log.read_text()[-4000:]}")
