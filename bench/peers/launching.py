"""Starting a peer, waiting until it answers, and ending all of its processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.chaos.census import descendants
from bench.client import connect
from bench.engine import ENVIRONMENT
from bench.load import Requests
from bench.peers.apps.answering import SETTINGS, PeerSettings
from bench.peers.catalogue import Peer
from bench.peers.environments import ROOT
from bench.pictures import Pictures

START_TIMEOUT = 300.0
STOP_TIMEOUT = 30.0
MAX_REFUSALS = 50
_LOG_BYTES = 3000


class PeerFailedError(Exception):
    """A peer did not start, did not answer or ended; the message ends with its log."""


@dataclass(frozen=True)
class RunningPeer:
    """`requests` for the server at `url`; `runtime` is what it says executes its network."""

    url: str
    requests: Requests
    runtime: Mapping[str, Any]


@contextmanager
def running(
    peer: Peer, python: Path, settings: Mapping[str, Any], pictures: Pictures
) -> Iterator[RunningPeer]:
    """`peer` with `settings` (those of PeerSettings but port and told), answering. Raises PeerFailedError."""
    with tempfile.TemporaryDirectory() as folder:
        log, told, port = Path(folder) / "log", Path(folder) / "told", free_port()
        told.mkdir()
        chosen = PeerSettings(port=port, told=str(told), **settings)
        environment = {
            **os.environ,
            **ENVIRONMENT,
            **peer.environment,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            "MOSEC_PORT": str(port),
            "MOSEC_ADDRESS": "127.0.0.1",
            "MOSEC_TIMEOUT": "60000",
            "OMP_NUM_THREADS": str(chosen.threads),
            SETTINGS: json.dumps(asdict(chosen)),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(python), "-m", peer.module],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
            )
        requests = peer.requests(f"127.0.0.1:{port}", pictures)
        url = f"http://127.0.0.1:{port}"
        try:
            start = _Start(process, log, time.monotonic() + START_TIMEOUT)
            ready = start.wait_until_ready(told, chosen.workers)
            start.wait_until_it_answers(url, requests(0))
            yield RunningPeer(url, requests, json.loads(ready[0].read_text()))
        except BaseException as error:
            error.add_note(f"{peer.name}: {_tail(log)}")
            raise
        finally:
            end(process)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True)
class _Start:
    """Waiting for a peer, until a deadline. Raises PeerFailedError."""

    process: subprocess.Popen[bytes]
    log: Path
    deadline: float

    def wait_until_ready(self, told: Path, num_workers: int) -> list[Path]:
        """Until all of its workers have loaded the network; the first that has may answer long before."""
        while len(ready := list(told.glob("*.json"))) < num_workers:
            self._check(f"{len(ready)} of {num_workers} workers are ready")
            time.sleep(0.2)
        return ready

    def wait_until_it_answers(self, url: str, request: bytes) -> None:
        """Until a request is answered with JSON."""
        num_refusals = 0
        while True:
            with suppress(OSError, TimeoutError):
                status, body = uvloop.run(_ask(url, request))
                if status == 200:
                    json.loads(body)  # an answer that is no JSON is no answer
                    return
                num_refusals += status != 503  # which is a usual word for "not yet"
            if num_refusals > MAX_REFUSALS:
                raise PeerFailedError(f"it answers {status}: {_tail(self.log)}")
            self._check("no answer yet")
            time.sleep(0.2)

    def _check(self, what: str) -> None:
        if self.process.poll() is not None:
            raise PeerFailedError(f"it ended with {self.process.returncode}: {_tail(self.log)}")
        if time.monotonic() > self.deadline:
            raise PeerFailedError(f"{what} after {START_TIMEOUT} s: {_tail(self.log)}")


async def _ask(url: str, request: bytes) -> tuple[int, bytes]:
    import asyncio

    connection = await connect(url)
    try:
        async with asyncio.timeout(60):
            reply = await connection.send(request)
    finally:
        connection.close()
    return reply.status, reply.body


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the peer, then SIGKILL to what is left of it; all that it started, also in other sessions."""
    family = _start_times([process.pid, *descendants(process.pid)])
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    for pid, started in family.items():
        if _start_times([pid]).get(pid) == started:  # else the number is somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def _start_times(pids: list[int]) -> dict[int, str]:
    """Of those that are alive."""
    found = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return found
