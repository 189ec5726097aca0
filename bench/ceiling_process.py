"""One process of a ceiling's layout: loads the network once, then runs what it is told for as long as it is told."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

LOAD_TIMEOUT = 600.0
_PICTURES_APART = 1_000_000
"""Pictures that a stream may use in one measurement before it would show those of another."""


@dataclass(frozen=True)
class Network:
    """What is run: weights, the largest batch, and further keys of models.yolo.load."""

    weights: str
    max_batch_size: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """One measurement. `turn` counts them, so that no picture is shown twice."""

    batch_size: int
    decodes_ahead: bool
    seconds: float
    turn: int


class Part:
    """The parent's side. A context manager: the process ends with it."""

    def __init__(
        self, cores: Sequence[int], streams: int, threads: int, network: Network, place: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, cores, streams, threads, network, place))
        self._process.start()
        theirs.close()  # so that its death is the end of the pipe
        self.runtime: dict[str, str] = {}

    def wait_until_loaded(self) -> None:
        """Raises RuntimeError when it failed or took too long."""
        self.runtime = self._receive(LOAD_TIMEOUT)

    def begin(self, share: Share) -> None:
        """Start a measurement and return at once."""
        self._seconds = share.seconds
        self._connection.send(share)

    def result(self) -> float:
        """Images per second. Raises RuntimeError."""
        per_second: float = self._receive(self._seconds + 60)
        return per_second

    def _receive(self, timeout: float) -> Any:
        try:
            if self._connection.poll(timeout):
                return self._connection.recv()
        except EOFError:
            raise RuntimeError("a process of the ceiling failed; its error is above") from None
        raise RuntimeError("a process of the ceiling hangs")

    def __enter__(self) -> Part:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(
    connection: Connection, cores: Sequence[int], streams: int, threads: int, network: Network, place: int
) -> None:
    """The process: load, say what executes the network, and measure until the pipe ends."""
    os.sched_setaffinity(0, cores)
    from bench.adapter import Adapter
    from bench.pictures import Pictures

    adapters = [
        Adapter(network.weights, threads, network.max_batch_size, network.options) for _ in range(streams)
    ]
    pictures = Pictures()
    connection.send(adapters[0].runtime)
    with ThreadPoolExecutor(2 * streams) as threads_of_streams:
        while True:
            try:
                share: Share = connection.recv()
            except EOFError:
                return
            runs: list[Future[float]] = []
            for index, adapter in enumerate(adapters):
                first = ((share.turn * 64 + place) * 64 + index) * _PICTURES_APART
                runs.append(
                    threads_of_streams.submit(_stream, adapter, pictures, share, first, threads_of_streams)
                )
            connection.send(sum(each.result() for each in runs))


def _stream(adapter: Any, pictures: Any, share: Share, first: int, executor: ThreadPoolExecutor) -> float:
    """Images per second of one stream."""

    def rows(turn: int) -> Any:
        start = first + turn * share.batch_size
        return adapter.decode([pictures.jpeg(start + place) for place in range(share.batch_size)])

    started = time.perf_counter()
    turn, ahead = 0, executor.submit(rows, 0) if share.decodes_ahead else None
    while (elapsed := time.perf_counter() - started) < share.seconds:
        if ahead is not None:
            batch = ahead.result()
            ahead = executor.submit(rows, turn + 1)
        else:
            batch = rows(turn)
        adapter.infer(batch)
        turn += 1
    if ahead is not None:
        ahead.result()
    return turn * share.batch_size / elapsed
