"""The real server with a model that does nothing, to see what everything around a model costs.

    python -m bench.noop '{"slot_side": 64}'           # serves it as `noop` on a free port and prints the address

Decoding and resizing, queue, slab, worker and sockets are the engine's; only the network is missing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from models.catalogue import CatalogueEntry
from models.spec import Spec
from pool.model import Answers, Progress, Row

MODEL = "noop"


class NoopModel:
    """Answers every picture with no predictions. Runs in a worker."""

    def __init__(self, config: Mapping[str, Any], device: str) -> None:
        side = config["slot_side"]
        spec = Spec(MODEL, "yolo", "detect", "letterbox", side, side, ("thing",), device, "none", "none", "")
        self.slot_shape = spec.slot_shape
        self.spec = spec.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """Nothing, for each."""
        return Answers([b'{"predictions":[]}' for _ in rows], {"infer": 0.0, "post": 0.0})


def load(config: Mapping[str, Any], device: str, progress: Progress) -> NoopModel:
    """The factory."""
    return NoopModel(config, device)


def main() -> int:
    """Serve it. Config: `slot_side` in pixels, and settings of the engine under `settings`."""
    from pool import Launcher, Limits, Placement, Pool
    from server.app import create_app
    from server.engine import Engine
    from server.serving import serve
    from server.settings import Settings
    from server.table import Known

    config = json.loads(sys.argv[1]) if sys.argv[1:] else {}
    launcher = Launcher(preload=["bench.noop"])

    def make_pool(known: Known) -> Pool:
        chosen = {"model_id": MODEL, "slot_side": config.get("slot_side", 640)}
        limits = Limits(max_batch_size=8)
        return Pool(MODEL, "bench.noop:load", chosen, [Placement()], launcher, limits)

    entry = CatalogueEntry(MODEL, "yolo", "detect", "file", "none", "Does nothing.")
    known = Known(entry, is_listed=True, loads_at_start=True, replicas="auto", task="detect")
    settings = Settings(**{"port": 0, "device": "cpu", "lame_duck": 0.0, **config.get("settings", {})})
    try:
        return serve(settings, lambda chosen: create_app(chosen, Engine(chosen, {MODEL: known}, make_pool)))
    finally:
        launcher.close()


if __name__ == "__main__":
    sys.exit(main())
