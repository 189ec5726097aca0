"""The real server as a stranger sees it, and the proof that it still serves everybody else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

import models.demo
from tests.serving import RunningServer

SAMPLE = Path(models.demo.__path__[0]) / "samples" / "sample.jpg"


@dataclass
class Target:
    """A server that loads the demo detector. `client` is a well-behaved one."""

    server: RunningServer
    client: httpx.Client
    _first: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.server.url

    @property
    def address(self) -> tuple[str, int]:
        """For a socket of one's own."""
        parts = urlsplit(self.server.url)
        assert parts.hostname is not None and parts.port is not None
        return parts.hostname, parts.port

    def infer(self, image: bytes, content_type: str = "image/jpeg", **options: Any) -> httpx.Response:
        """An image as the body of `POST /inference`."""
        return self.client.post(
            "/inference",
            params={"model_id": "shapes-detect", **options},
            content=image,
            headers={"content-type": content_type},
        )

    def assert_serves(self) -> None:
        """A good request has the answer that it had the first time."""
        reply = self.infer(SAMPLE.read_bytes())
        assert reply.status_code == 200, reply.text
        predictions = reply.json()["predictions"]
        assert predictions
        self._first = self._first or predictions
        assert predictions == self._first
