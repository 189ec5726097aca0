"""mosec: its front is written in Rust, its workers take the raw body and batch by themselves."""

from __future__ import annotations

from mosec import Server, Worker

from bench.peers.apps.answering import make_answer, read_settings

MAX_WAIT_MILLISECONDS = 1
"""For a batch to fill; its least."""


class Network(Worker):
    """One worker's network."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = read_settings()
        self.answer = make_answer(self.settings)

    def deserialize(self, data: bytes) -> bytes:
        return data

    def serialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes] | bytes) -> list[bytes] | bytes:
        if isinstance(data, list):
            return self.answer(data)
        (answer,) = self.answer([data])  # without batching it is one picture
        return answer


if __name__ == "__main__":
    settings = read_settings()
    server = Server()
    server.append_worker(
        Network,
        num=settings.workers,
        max_batch_size=settings.batch_size,
        max_wait_time=MAX_WAIT_MILLISECONDS,
    )
    server.run()
