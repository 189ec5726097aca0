"""SIGTERM under load, with the real server and the real model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.serving import RunningServer, process_state, start_server

SAMPLE = Path("models/demo/samples/sample.jpg")
INFERENCE = "/inference?model_id=shapes-detect"


@dataclass
class Clients:
    """Closed loops over kept-alive connections; stops when connecting is refused."""

    url: str
    num_answered: int = 0
    lost: list[str] = field(default_factory=list)
    closed: int = 0

    async def run(self, num_clients: int) -> None:
        """Until every client has been refused."""
        picture = SAMPLE.read_bytes()
        await asyncio.gather(*(self._one(picture) for _ in range(num_clients)))

    async def _one(self, picture: bytes) -> None:
        headers = {"content-type": "image/jpeg"}
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while True:
                try:
                    reply = await client.post(INFERENCE, content=picture, headers=headers)
                except httpx.ConnectError:
                    return
                except httpx.TransportError as error:
                    self.lost.append(repr(error))
                    return
                if reply.status_code != 200:
                    self.lost.append(reply.text)
                    return
                self.num_answered += 1
                self.closed += reply.headers.get("connection") == "close"


def _leave_under_load(lame_duck: str) -> tuple[RunningServer, Clients, int]:
    with start_server("--lame-duck", lame_duck) as server:
        clients = Clients(server.url)

        async def load() -> None:
            running = asyncio.create_task(clients.run(16))
            while clients.num_answered < 32:
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await running

        asyncio.run(load())
        return server, clients, server.process.wait(timeout=40)


@pytest.mark.parametrize("lame_duck", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_nothing_that_was_sent_is_lost_when_the_server_is_told_to_stop(lame_duck: str) -> None:
    _, clients, code = _leave_under_load(lame_duck)
    assert clients.lost == []
    assert code == 0
    assert clients.closed > 0, "while it leaves, every reply closes its connection"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_nothing_is_lost_twenty_times_over(number: int) -> None:
    _, clients, code = _leave_under_load("0.5" if number % 2 else "0")
    assert (clients.lost, code) == ([], 0)


def test_while_it_leaves_readiness_says_no_and_requests_are_answered() -> None:
    with start_server("--lame-duck", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while (health := httpx.get(server.url + "/healthz", timeout=30)).status_code == 200:
            assert time.monotonic() < deadline
        assert health.json()["status"] == "draining"
        assert health.headers["connection"] == "close"
        assert httpx.get(server.url + "/livez", timeout=30).status_code == 200
        reply = httpx.post(
            server.url + INFERENCE,
            content=SAMPLE.read_bytes(),
            headers={"content-type": "image/jpeg"},
            timeout=30,
        )
        assert reply.status_code == 200
        assert reply.headers["connection"] == "close"
        server.process.send_signal(signal.SIGTERM)  # the second stops at once
        assert server.process.wait(timeout=10) == 0


def test_ctrl_c_does_not_wait_for_load_balancers() -> None:
    with start_server("--lame-duck", "60") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    "stopped",
    [
        "worker",
        pytest.param("forkserver", marks=pytest.mark.slow),
        pytest.param("nothing", marks=pytest.mark.slow),
    ],
)
def test_no_process_outlives_a_killed_front(stopped: str) -> None:
    with start_server() as server:
        family = _descendants(server.process.pid)
        assert len(family) >= 2, "a forkserver and a worker"
        if stopped != "nothing":
            os.kill(family[0] if stopped == "forkserver" else family[-1], signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 2.0
        while alive := [pid for pid in family if process_state(pid) not in ("Z", "X", "gone")]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.01)


def _descendants(pid: int) -> list[int]:
    """Process ids, parents first."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = dict(map(int, line.split()) for line in listed.stdout.splitlines())
    family, found = [pid], [pid]
    while found:
        found = [child for child, parent in parents.items() if parent in found]
        family += found
    return family[1:]
