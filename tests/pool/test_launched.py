from __future__ import annotations

import select

import pytest

from pool.launched import LaunchedBatch, Waiter
from pool.model import Answers, Running
from pool.protocol import Batch


class _Leaving:
    """What a batch of a library is that ends the process where it should raise."""

    def wait(self) -> None:
        raise SystemExit(3)

    def result(self) -> Answers:
        raise AssertionError("never asked after a failure")


class _Model:
    def launch(self, rows: object) -> Running:
        return _Leaving()


def test_an_exit_while_a_batch_is_waited_for_is_not_swallowed_by_its_thread() -> None:
    """The worker would wait for the batch until the front kills it, a minute later."""
    batch = LaunchedBatch(Batch(1, []), [], 0.0)
    batch.begin(_Model())  # type: ignore[arg-type]  # all that is called of it
    waiter = Waiter()
    waiter.wait_for(batch)
    assert select.select([waiter.fileno()], [], [], 20.0)[0]
    waiter.next()
    with pytest.raises(SystemExit):
        batch.result()
