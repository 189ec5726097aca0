from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from server.errors import RequestFailedError
from server.resolver import Resolver
from tests.server.conftest import until


class Hangs:
    """A system whose name servers say nothing, until they do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", self._answer)

    def _answer(self, host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host == "quick.example":
            return [(socket.AF_INET, 1, 6, "", ("93.184.215.14", port))] * 2
        self.may_answer.wait(30)
        raise socket.gaierror("no answer")


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Hangs:
    return Hangs(monkeypatch)


async def impatient(resolver: Resolver, host: str) -> str:
    """What comes of a lookup whose caller does not wait."""
    try:
        return " ".join(await asyncio.wait_for(resolver(host, 80), 0.05))
    except TimeoutError:
        return "timeout"
    except RequestFailedError as error:
        return error.code


async def test_lookups_that_hang_are_shared_by_name_bounded_and_hold_up_nobody_else(hangs: Hangs) -> None:
    resolver = Resolver(max_lookups=3)
    num_threads = threading.active_count()
    assert await asyncio.gather(*(impatient(resolver, "dead.example") for _ in range(20))) == ["timeout"] * 20
    assert hangs.asked == ["dead.example"]
    assert await impatient(resolver, "quick.example") == "93.184.215.14"
    assert [await impatient(resolver, f"{n}.example") for n in range(4)] == ["timeout"] * 2 + [
        "overloaded"
    ] * 2
    assert await impatient(resolver, "quick.example") == "overloaded"
    assert (resolver.num_lookups, threading.active_count()) == (3, num_threads + 3)
    hangs.may_answer.set()
    await until(lambda: resolver.num_lookups == 0 and threading.active_count() == num_threads)
    assert await impatient(resolver, "quick.example") == "93.184.215.14"


async def test_a_name_without_an_answer_is_an_oserror(hangs: Hangs) -> None:
    hangs.may_answer.set()
    with pytest.raises(OSError):
        await Resolver()("dead.example", 80)


def test_a_lookup_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    code = """
import asyncio, socket, time
from server.resolver import Resolver
socket.getaddrinfo = lambda *arguments, **options: time.sleep(60)
async def main():
    try:
        await asyncio.wait_for(Resolver()("dead.example", 80), 0.05)
    except TimeoutError:
        print("timeout")
asyncio.run(main())
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("timeout\n", "")
    assert time.monotonic() - started < 30
