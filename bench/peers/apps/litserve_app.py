"""LitServe: a form with a file, batches in its workers, ZeroMQ between its processes (`fast_queue`)."""

# No `from __future__ import annotations`: LitServe reads the type of the request from the annotation itself.
from collections.abc import Sequence
from typing import Annotated, Any

import litserve
from fastapi import File, Response

from bench.peers.apps.answering import make_answer, read_settings

BATCH_SECONDS = 0.01
"""For a batch to fill. With none its workers ask their queue without a pause and take the cores from the network."""


class Network(litserve.LitAPI):
    """One worker's network."""

    def setup(self, device: str) -> None:
        self.answer = make_answer(read_settings())

    def decode_request(self, request: Annotated[bytes, File()]) -> bytes:
        return request

    def predict(self, x: Any) -> Any:
        if isinstance(x, bytes):  # without batching it is one picture
            (answer,) = self.answer([x])
            return answer
        return self.answer(x)

    def batch(self, inputs: Sequence[bytes]) -> list[bytes]:
        return list(inputs)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    settings = read_settings()
    network = Network(max_batch_size=settings.batch_size, batch_timeout=BATCH_SECONDS)
    server = litserve.LitServer(
        network,
        accelerator="cpu",
        devices=1,
        workers_per_device=settings.workers,
        timeout=60,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=settings.port,
        num_api_servers=1,
        generate_client_file=False,
        access_log=False,
        log_level="warning",
    )
