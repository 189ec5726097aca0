"""Clients: closed loops and an open one, whose every request ends in the journal."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable

from bench.chaos.journal import LOST, RIGHT, WRONG, Asked, Journal
from bench.chaos.questions import Question, Source
from bench.client import Connection, Reply, connect

PATIENCE = 90.0
"""Seconds without an answer after which a request counts as lost; the server's own deadline is far below."""


class Clients:
    """Ask questions of `source`, numbered from `first`; request ids begin with `name`."""

    def __init__(self, url: str, source: Source, name: str, first: int = 0) -> None:
        self.journal = Journal()
        self._url, self._source, self._name = url, source, name
        self._numbers = itertools.count(first)
        self._idle: list[Connection] = []

    async def closed_loop(self, num_clients: int, is_over: Callable[[], bool]) -> None:
        """`num_clients` at once, each asking again as soon as it has its answer."""

        async def client() -> None:
            while not is_over():
                await self.ask(next(self._numbers), time.monotonic())

        await asyncio.gather(*(client() for _ in range(num_clients)))
        self.hang_up()

    async def open_loop(self, rate: float, until: float, seed: int = 0) -> None:
        """Poisson arrivals at `rate` per second, whatever the answers; returns once all are answered."""
        generator = random.Random(seed)
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while due < until:
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(self.ask(next(self._numbers), due))
            running.add(task)
            task.add_done_callback(running.discard)
            due += generator.expovariate(rate)
        await asyncio.gather(*running)
        self.hang_up()

    async def ask(self, number: int, due: float) -> None:
        """One question on an idle connection, or on a new one."""
        request_id = f"{self._name}-{number}"
        question = self._source.question(number, request_id)
        sent_at, reply, connection = time.monotonic(), None, None
        try:
            connection = self._idle.pop() if self._idle else await connect(self._url)
            sent_at = time.monotonic()
            async with asyncio.timeout(PATIENCE):
                reply = await connection.send(question.request)
            self._put_back(connection, reply)
        except (OSError, TimeoutError):  # the journal says that it was lost
            if connection is not None:
                connection.close()
        outcome = LOST if reply is None else judge(question, reply, request_id)
        status = 0 if reply is None else reply.status
        asked = Asked(question.key, request_id, due, sent_at, time.monotonic(), status, outcome)
        self.journal.asked.append(asked)

    def _put_back(self, connection: Connection, reply: Reply) -> None:
        if reply.headers.get("connection") == "close":
            self.journal.num_unasked += connection.num_unasked
            connection.close()
        else:
            self._idle.append(connection)

    def hang_up(self) -> None:
        """Close all connections."""
        while self._idle:
            connection = self._idle.pop()
            self.journal.num_unasked += connection.num_unasked
            connection.close()


def judge(question: Question, reply: Reply, request_id: str) -> str:
    """The outcome of one exchange, see `Asked`."""
    body = json.loads(reply.body)
    if reply.headers.get("x-request-id") != request_id:
        return WRONG
    code = body["error"]["code"] if reply.status != 200 else ""
    if reply.status == 200 and (body["request_id"] != request_id or not question.is_right(body)):
        return WRONG
    if (reply.status, code) == question.expected:
        return RIGHT
    return code or "answered"
