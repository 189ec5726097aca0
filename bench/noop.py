"""The real server with a model that does nothing: what is left is what the server itself costs.

    python -m bench.noop --port 5000

Every answer is the one fragment of a picture with five boxes; pixels are decoded into the slot as for any model.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette

from models.catalogue import CatalogueEntry
from models.spec import Spec
from pool import Launcher, Limits, Placement, Pool
from pool.model import Answers, Progress, Row
from server.app import create_app
from server.engine import Engine
from server.serving import serve
from server.settings import Settings
from server.settings_load import load_settings
from server.table import Known

MODEL = "noop"
SPEC = Spec(
    model_id=MODEL, family="yolo", task="detect", resize="letterbox", input_height=640, input_width=640,
    labels=("person", "bus"), device="cpu", runtime="none", precision="none", weights_sha256="",
)  # fmt: skip
BOX = {"x1": 10.123, "y1": 20.456, "x2": 300.789, "y2": 400.012}
FRAGMENT = json.dumps(
    {"predictions": [{"label": "person", "class_id": 0, "confidence": 0.87654, "box": BOX}] * 5}
).encode()


class NoOp:
    """Answers at once, without a look at the pixels."""

    slot_shape = SPEC.slot_shape
    spec = SPEC.to_json()

    def infer(self, rows: Sequence[Row]) -> Answers:
        """The same for every row."""
        started = time.monotonic()
        return Answers([FRAGMENT] * len(rows), {"infer": time.monotonic() - started, "post": 0.0})


def load(config: Mapping[str, Any], device: str, progress: Progress) -> NoOp:
    """The factory."""
    return NoOp()


def make_app(settings: Settings) -> Starlette:
    """The server's own application, with this model and no other."""
    launcher = Launcher(preload=["bench.noop"])
    limits = Limits(max_batch_size=settings.max_batch_size, max_queue_size=settings.max_queue_size)

    def make_pool(known: Known) -> Pool:
        return Pool(MODEL, "bench.noop:load", {}, [Placement()], launcher, limits)

    entry = CatalogueEntry(MODEL, "yolo", "detect", "file", "", "Does nothing.")
    known = Known(entry, True, True, "auto", "detect")
    return create_app(engine=Engine(settings, {MODEL: known}, make_pool))


def main(arguments: Sequence[str]) -> int:
    """`--port N`; everything else comes from the environment, as for the server."""
    return serve(load_settings({"port": arguments[1]} if arguments[:1] == ["--port"] else {}), make_app)


if __name__ == "__main__":
    # as what workers import: in this module's own name a factory could not be found
    from bench import noop

    sys.exit(noop.main(sys.argv[1:]))
