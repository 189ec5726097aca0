"""Every fault that was injected: when, into which process, and which pictures it hit. One JSON object a line.

Written by the injector and, for orders and poison, by the worker itself at the last moment before it obeys.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class FaultLog:
    """The file ``faults.jsonl`` in `folder`; each line is one append, so several processes may write."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "faults.jsonl"

    def add(self, fault: str, pid: int, hit: Sequence[int] | None, **fields: Any) -> None:
        """`hit` are the checksums of the batch that `pid` was running, None where nobody can know."""
        line = {"time": time.time(), "fault": fault, "pid": pid, "hit": hit and list(hit), **fields}
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """All faults so far, oldest first."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]


def order_path(folder: Path, pid: int) -> Path:
    """Where a worker looks for an order before each batch."""
    return folder / f"order-{pid}"


def give_order(folder: Path, pid: int, order: dict[str, Any]) -> None:
    """Let the worker `pid` obey with its next batch."""
    draft = folder / f"draft-{pid}"
    draft.write_text(json.dumps(order))
    draft.replace(order_path(folder, pid))


def running_path(folder: Path, pid: int) -> Path:
    """Where a worker writes down what it is about to run."""
    return folder / f"running-{pid}"


def last_batch(folder: Path, pid: int) -> list[int]:
    """Checksums of the batch that `pid` began last."""
    try:
        crcs: list[int] = json.loads(running_path(folder, pid).read_text() or "[]")
    except FileNotFoundError:  # it was still loading
        return []
    return crcs
