from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from pool import Launcher
from tests.pool.conftest import MakePool, ask, picture, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRONT = """
import asyncio, json
from pool import Launcher, Placement, Pool
from tests.pool.conftest import ask, until

async def main():
    launcher = Launcher(preload=["tests.pool.fakes"])
    pool = Pool("fake", "tests.pool.fakes:load", {}, [Placement()] * 3, launcher)
    await pool.start()
    await until(lambda: all(r.is_serving for r in pool.replicas))
    stuck = asyncio.create_task(ask(pool, do="hang", deadline=1e9))
    await until(lambda: any(r.in_flight for r in pool.replicas))
    print(json.dumps([launcher.pid, *[r.pid for r in pool.replicas]]), flush=True)
    await stuck

asyncio.run(main())
"""


def is_gone(pid: int) -> bool:
    """No such process, or only its exit status is left."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


async def test_a_killed_front_leaves_no_process_behind_not_even_a_stopped_or_stuck_one() -> None:
    front = subprocess.Popen([sys.executable, "-c", FRONT], stdout=subprocess.PIPE, text=True)
    assert front.stdout is not None
    forkserver, *workers = json.loads(front.stdout.readline())
    os.kill(workers[1], signal.SIGSTOP)
    front.kill()
    front.wait()
    front.stdout.close()
    await until(lambda: all(map(is_gone, [forkserver, *workers])), timeout=5.0)


async def test_a_killed_forkserver_is_survived(make_pool: MakePool, launcher: Launcher) -> None:
    pool = await make_pool(2, seconds=0.1)
    forkserver = launcher.pid
    assert forkserver is not None
    tasks = [asyncio.create_task(ask(pool, i)) for i in range(12)]
    await until(lambda: any(r.in_flight for r in pool.replicas))
    os.kill(forkserver, signal.SIGKILL)
    results = await asyncio.gather(*tasks)
    assert [json.loads(r.payload)["crc"] for r in results] == [
        zlib.crc32(picture(i).tobytes()) for i in range(12)
    ]
    assert launcher.pid not in (None, forkserver)
    assert sum(n for reason, n in pool.counters.items() if reason.startswith("deaths_")) == 2


async def test_a_worker_holds_no_descriptor_of_the_front_or_of_its_siblings(make_pool: MakePool) -> None:
    pool = await make_pool(3)
    for replica in pool.replicas:
        descriptors = Path(f"/proc/{replica.pid}/fd").iterdir()
        links = [str(path.readlink()) for path in descriptors if int(path.name) > 2]
        sockets = [link for link in links if link.startswith("socket:")]
        assert len(sockets) == 1, links
        assert not any("pidfd" in link for link in links), links
        assert sum("memfd:slab" in link for link in links) <= 1, links  # its own pool's, held by the mapping


async def test_a_respawn_does_not_wait_for_imports(make_pool: MakePool) -> None:
    """The forkserver has them: a second worker is there in a fraction of the time the first took."""
    started = time.monotonic()
    launcher = Launcher(preload=["tests.pool.slow_import"])
    from pool import Placement, Pool

    pool = Pool("fake", "tests.pool.fakes:load", {}, [Placement()], launcher)
    await pool.start()
    await until(lambda: pool.is_ready)
    first = time.monotonic() - started
    started = time.monotonic()
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.replicas[0].num_deaths == 1 and pool.is_ready)
    assert time.monotonic() - started < first - 0.5  # the import alone sleeps for a second
    await pool.stop()
    launcher.close()


async def test_closing_ends_the_forkserver_and_may_be_repeated() -> None:
    launcher = Launcher()
    from pool import Placement, Pool

    pool = Pool("fake", "tests.pool.fakes:load", {}, [Placement()], launcher)
    await pool.start()
    await until(lambda: pool.is_ready)
    pid = launcher.pid
    assert pid is not None
    await pool.stop()
    launcher.close()
    launcher.close()
    assert is_gone(pid)
    assert launcher.pid is None


async def test_a_forkserver_short_of_descriptors_fails_one_worker_and_keeps_its_siblings(
    make_pool: MakePool, launcher: Launcher
) -> None:
    pool = await make_pool(2)
    forkserver, sibling = launcher.pid, pool.replicas[1].pid
    assert forkserver is not None
    limits = resource.prlimit(forkserver, resource.RLIMIT_NOFILE)
    resource.prlimit(forkserver, resource.RLIMIT_NOFILE, (3, limits[1]))
    os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
    await until(lambda: pool.counters["deaths_not_launched"] >= 1)
    resource.prlimit(forkserver, resource.RLIMIT_NOFILE, limits)
    await until(lambda: all(r.is_serving for r in pool.replicas))
    assert (launcher.pid, pool.replicas[1].pid) == (forkserver, sibling)


async def test_a_front_short_of_descriptors_fails_one_worker_and_tries_again(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await make_pool()
    receive = socket.recv_fds

    def without_descriptors(*arguments: int) -> tuple[bytes, list[int], int, None]:
        message, descriptors, flags, _ = receive(*arguments)  # type: ignore[arg-type]
        for descriptor in descriptors:
            os.close(descriptor)
        return message, [], flags, None

    with monkeypatch.context() as exhausted:
        exhausted.setattr("pool.launcher.socket.recv_fds", without_descriptors)
        os.kill(pool.replicas[0].pid or 0, signal.SIGKILL)
        await until(lambda: pool.counters["deaths_not_launched"] >= 1)
    assert (await ask(pool, 1)).num_replays == 0


async def test_arguments_too_large_for_a_request_leave_the_forkserver_alone(
    make_pool: MakePool, launcher: Launcher
) -> None:
    await make_pool()
    forkserver = launcher.pid
    pool = await make_pool(wait=False, text="x" * 100_000)
    await until(lambda: pool.counters["deaths_not_launched"] >= 1)
    assert launcher.pid == forkserver


async def test_the_death_of_a_forkserver_is_not_waited_out(make_pool: MakePool, launcher: Launcher) -> None:
    pool = await make_pool()
    assert launcher.pid is not None
    started = time.monotonic()
    os.kill(launcher.pid, signal.SIGKILL)
    await until(lambda: pool.replicas[0].num_deaths == 1)
    assert (
        time.monotonic() - started < 0.9
    )  # no exit code will come; only a sibling's would be worth a second
    await until(lambda: pool.is_ready)
