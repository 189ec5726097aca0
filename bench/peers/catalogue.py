"""Which peers there are, how they are asked, and which of their settings are tried before the best are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.client import build_form, build_post
from bench.load import Requests
from bench.pictures import Pictures

VARIANTS = ("predict", "adapter")


@dataclass(frozen=True)
class Peer:
    """A server. `package` names its version, `path` is where it is asked, `field` the file's name in a form (None:
    the body is the picture), `environment` is added to its own."""

    name: str
    package: str
    path: str
    field: str | None
    batch_sizes: tuple[int, ...]
    why: str
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """What runs in its environment."""
        return f"bench.peers.apps.{self.name}_app"

    def candidates(self, num_cores: int) -> list[dict[str, Any]]:
        """Settings to try: a process per core with each batch size, and one with all cores with the largest."""
        tried = [(num_cores, 1, size) for size in self.batch_sizes]
        if num_cores > 1:
            tried.append((1, num_cores, max(self.batch_sizes)))
        return [dict(zip(("workers", "threads", "batch_size"), each, strict=True)) for each in tried]

    def requests(self, host: str, pictures: Pictures) -> Requests:
        """Requests with a picture each, for the server at `host` ("127.0.0.1:5000")."""
        if self.field is None:
            return lambda number: build_post(host, self.path, "image/jpeg", pictures.jpeg(number))
        name = self.field
        return lambda number: build_form(host, self.path, name, pictures.jpeg(number))


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "fastapi",
            "fastapi",
            "/predict",
            None,
            (1,),
            "uvicorn's `workers`, one process per core or one with all; raw body; the network in a thread",
        ),
        Peer(
            "litserve",
            "litserve",
            "/predict",
            "request",
            (1, 8),
            "`workers_per_device`, `max_batch_size`, `fast_queue`; a form, since raw bodies are not taken",
        ),
        Peer(
            "mosec",
            "mosec",
            "/inference",
            None,
            (1, 8),
            "`num` workers, `max_batch_size`, `max_wait_time` 1 ms; raw body",
            environment={"MOSEC_LOG_LEVEL": "warning"},
        ),
        Peer(
            "ray",
            "ray",
            "/",
            None,
            (1, 8),
            "`num_replicas`, `serve.batch` without waiting, `max_ongoing_requests` above the load; raw body",
            environment={
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_SERVE_LOG_TO_STDERR": "0",
                "RAY_DISABLE_MEMORY_MONITOR": "1",
                "RAY_worker_niceness": "0",  # its own default of 15 leaves it what others do not want
            },
        ),
        Peer(
            "bentoml",
            "bentoml",
            "/predict",
            "image",
            (1, 8),
            "`workers`, adaptive batching with `max_batch_size`; a form, since batchable APIs take lists",
            environment={"BENTOML_DO_NOT_TRACK": "True"},
        ),
    )
}
