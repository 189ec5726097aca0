"""BentoML: adaptive batching in each of its workers; a form with a list of files, as batchable APIs ask for."""

# No `from __future__ import annotations`: BentoML reads the types of the API from the annotations themselves.
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from bench.peers.apps.answering import make_answer, read_settings

settings = read_settings()


@bentoml.service(workers=settings.workers, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Network:
    """One worker's network."""

    def __init__(self) -> None:
        self.answer = make_answer(settings)

    @bentoml.api(batchable=True, max_batch_size=settings.batch_size, max_latency_ms=60_000)
    def predict(self, image: list[Annotated[Path, ContentType("image/jpeg")]]) -> list[dict[str, Any]]:
        """Pictures in files of BentoML's, JSON out."""
        answers = self.answer([picture.read_bytes() for picture in image])
        return [{"answer": json.loads(answer)} for answer in answers]


if __name__ == "__main__":
    from bentoml_cli.cli import cli

    sys.exit(
        cli(
            [
                "serve",
                "bench.peers.apps.bentoml_app:Network",
                "--host",
                "127.0.0.1",
                "--port",
                str(settings.port),
            ]
        )
    )
