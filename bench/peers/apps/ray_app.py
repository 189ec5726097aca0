"""Ray Serve: a deployment with `serve.batch`; the network runs in a thread, so that a batch gathers meanwhile."""

from __future__ import annotations

import asyncio
import signal
import tempfile

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.apps.answering import PeerSettings, make_answer, read_settings

MAX_ONGOING = 64
"""Requests in one replica; above the load of the bench, so that nothing waits in the router."""


@serve.deployment(max_ongoing_requests=MAX_ONGOING)
class Network:
    """One replica's network."""

    def __init__(self, settings: PeerSettings) -> None:
        self.answer = make_answer(settings)
        self.answer_batch.set_max_batch_size(settings.batch_size)  # type: ignore[attr-defined]

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def answer_batch(self, jpegs: list[bytes]) -> list[bytes]:
        """Called with one picture, runs with all that wait."""
        return await asyncio.to_thread(self.answer, jpegs)

    async def __call__(self, request: Request) -> Response:
        answer: bytes = await self.answer_batch(await request.body())  # type: ignore[arg-type,assignment]
        return Response(answer, media_type="application/json")


def main() -> None:
    """Serve until SIGTERM."""
    settings = read_settings()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        ray.init(
            num_cpus=settings.workers * settings.threads,
            include_dashboard=False,
            object_store_memory=200 * 2**20,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
        options = {"num_cpus": settings.threads}
        deployment = Network.options(num_replicas=settings.workers, ray_actor_options=options)  # type: ignore[attr-defined]
        try:
            serve.run(deployment.bind(settings), blocking=True)
        except KeyboardInterrupt:
            serve.shutdown()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
