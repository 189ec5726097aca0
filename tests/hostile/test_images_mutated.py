"""A share of what `python -m bench.mutate` does at length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.mutants import Mutants, corpus
from bench.mutate import send_all
from tests.hostile.target import Target

NUM_MUTANTS = 3000
PATIENCE = 15.0
"""Seconds after which no more are begun: a slow machine sees a share of them."""


def in_time(num_mutants: int) -> Iterator[int]:
    """Numbers, until the time is over."""
    deadline = time.monotonic() + PATIENCE
    for number in range(num_mutants):
        if time.monotonic() > deadline:
            return
        yield number


def test_damaged_pictures_cost_nobody_but_those_who_send_them(target: Target) -> None:
    outcome = asyncio.run(
        send_all(target.server, "shapes-detect", Mutants(4, corpus()), in_time(NUM_MUTANTS))
    )
    assert not outcome.complaints()
    assert len(outcome.seconds) > NUM_MUTANTS // 20
    assert {"200 ok", "422 image_undecodable", "422 image_too_large"} <= set(outcome.replies)
    assert max(outcome.seconds) < 20
