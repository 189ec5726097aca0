"""Breaks random workers, one every so often, and writes down what it did."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.chaos.faultlog import FaultLog, give_order, last_batch
from bench.client import connect

SIGNALS: Mapping[str, signal.Signals] = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "segfault": signal.SIGSEGV,
    "abort": signal.SIGABRT,
    "bus": signal.SIGBUS,
}
ORDERS = ("sticky", "sticky_late", "out_of_memory", "protocol", "hang", "spin")
_DEATH_TIMEOUT = 2.0


class Injector:
    """`folder` is where the fake model looks for orders; None for a real model, which knows signals only."""

    def __init__(
        self, url: str, model: str, faults: Sequence[str], folder: Path | None, seed: int = 0
    ) -> None:
        self._url, self._model, self._faults, self._folder = url, model, faults, folder
        self._log = FaultLog(folder) if folder is not None else None
        self._random = random.Random(seed)
        self.injected: list[tuple[str, int, float]] = []
        """Fault, process and moment (`time.time`), in order."""

    async def run(self, interval: float, is_over: Callable[[], bool]) -> None:
        """One fault every `interval` seconds into a random worker."""
        due = time.monotonic()
        while not is_over():
            due = max(due + interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            pids = [replica["pid"] for replica in await self._replicas() if replica["pid"]]
            if pids and not is_over():
                await self.inject(self._random.choice(self._faults), self._random.choice(pids))

    async def inject(self, fault: str, pid: int) -> None:
        """Break the worker `pid` now, or with its next batch where it has to do so itself."""
        self.injected.append((fault, pid, time.time()))
        if fault not in SIGNALS:
            assert self._folder is not None, "a real model obeys no orders"
            give_order(self._folder, pid, {"fault": fault, "number": len(self.injected)})
            return
        try:
            os.kill(pid, SIGNALS[fault])
        except ProcessLookupError:  # it was dying already
            self.injected.pop()
            return
        if self._log is not None and self._folder is not None:
            await _until_still(pid)
            self._log.add(fault, pid, last_batch(self._folder, pid))

    async def _replicas(self) -> list[dict[str, Any]]:
        connection = await connect(self._url)
        reply = await connection.send(f"GET /models/{self._model} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode())
        connection.close()
        replicas: list[dict[str, Any]] = json.loads(reply.body)["replicas"]
        return replicas


async def _until_still(pid: int) -> None:
    """Until `pid` can run no further line: dead or stopped."""
    deadline = time.monotonic() + _DEATH_TIMEOUT
    while time.monotonic() < deadline:
        try:
            stat = await asyncio.to_thread(Path(f"/proc/{pid}/stat").read_text)
        except (FileNotFoundError, ProcessLookupError):
            return
        if stat.rpartition(")")[2].split()[0] in "TZX":
            return
        await asyncio.sleep(0.002)
