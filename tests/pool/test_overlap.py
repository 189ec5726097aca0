"""A worker whose model can be given the next batch while it works at one."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pool import EntryFailedError, Limits, Result
from pool.protocol import Batch, Done, FrameReader, Stop, encode
from pool.protocol import Slab as SlabMessage
from pool.slab import Slab
from pool.worker import _Server
from tests.pool.conftest import MakePool, ask, picture, until
from tests.pool.overlapping import Overlapping
from tests.pool.test_faults import ask_all, assert_right
from tests.pool.test_pool import crc

pytestmark = pytest.mark.asyncio(loop_scope="module")

FACTORY = "tests.pool.overlapping:load"
SINGLES = Limits(max_batch_size=1, max_in_flight=2)


def calls(path: Path) -> list[list[str]]:
    """What was called with the names of its rows, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_next_batch_is_launched_before_the_one_before_is_collected(
    make_pool: MakePool, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=0.3, calls=str(log))
    await asyncio.gather(*(ask(pool, number, name=str(number)) for number in range(4)))
    assert calls(log) == [
        ["attach"],
        *(["launch", "0"], ["launch", "1"], ["collect", "0"], ["launch", "2"]),
        *(["collect", "1"], ["launch", "3"], ["collect", "2"], ["collect", "3"]),
    ]


async def test_a_batch_that_comes_while_another_is_waited_for_is_launched_at_once(
    make_pool: MakePool, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=1.0, calls=str(log))
    first = asyncio.create_task(ask(pool, 1, name="first"))
    await until(lambda: log.exists() and ["launch", "first"] in calls(log))
    second = asyncio.create_task(ask(pool, 2, name="second"))
    await until(lambda: ["launch", "second"] in calls(log))
    assert not first.done()
    assert ["collect", "first"] not in calls(log)
    assert [json.loads(each.payload)["crc"] for each in (await first, await second)] == [crc(1), crc(2)]


async def test_nobody_waits_for_a_second_batch(make_pool: MakePool, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    pool = await make_pool(factory=FACTORY, limits=SINGLES, calls=str(log))
    for number in range(3):
        assert json.loads((await ask(pool, number, name=str(number))).payload)["crc"] == crc(number)
    assert [call for call, *_ in calls(log)] == ["attach", *["launch", "collect"] * 3]


@pytest.mark.parametrize("max_launched", [1, 2, 3])
async def test_no_more_is_launched_than_the_model_can_hold(
    make_pool: MakePool, tmp_path: Path, max_launched: int
) -> None:
    log = tmp_path / "calls"
    limits = Limits(max_batch_size=1, max_in_flight=4)
    pool = await make_pool(
        factory=FACTORY, limits=limits, seconds=0.02, calls=str(log), max_launched=max_launched
    )
    results = await asyncio.gather(*(ask(pool, number) for number in range(12)))
    assert [json.loads(result.payload)["crc"] for result in results] == [crc(n) for n in range(12)]
    num_launched = most = 0
    for call, *_ in calls(log):
        num_launched += (call == "launch") - (call == "collect" and max_launched > 1)
        most = max(most, num_launched)
    assert most == (max_launched if max_launched > 1 else 0)


async def test_results_of_batches_in_flight_together_never_mix(make_pool: MakePool) -> None:
    limits = Limits(max_batch_size=4, max_in_flight=2)
    pool = await make_pool(2, factory=FACTORY, limits=limits, seconds=0.003)
    results = await asyncio.gather(*(ask(pool, number) for number in range(120)))
    assert [json.loads(result.payload)["crc"] for result in results] == [crc(n) for n in range(120)]
    assert max(result.batch_size for result in results) == 4


async def test_the_same_second_is_never_counted_for_two_batches(make_pool: MakePool) -> None:
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=0.1)
    started = time.monotonic()
    results = await asyncio.gather(*(ask(pool, number) for number in range(4)))
    elapsed = time.monotonic() - started
    seconds = [result.timings["infer"] for result in results]
    assert min(seconds) >= 0.09
    assert sum(seconds) <= elapsed


@pytest.mark.parametrize("where", ["launch", "wait", "result"])
async def test_an_exception_costs_only_its_culprit_an_answer(make_pool: MakePool, where: str) -> None:
    limits = Limits(max_batch_size=3, max_in_flight=2)
    pool = await make_pool(factory=FACTORY, limits=limits, seconds=0.03)
    results = await ask_all(pool, [None, None, None, f"raise_in_{where}", None, None, None, None])
    culprit = results.pop(3)
    assert isinstance(culprit, EntryFailedError)
    assert culprit.code == "internal"
    for number, result in zip((0, 1, 2, 4, 5, 6, 7), results, strict=True):
        assert isinstance(result, Result), result
        assert json.loads(result.payload)["crc"] == crc(number)
    assert pool.replicas[0].num_deaths == 0


@pytest.mark.parametrize("when", ["fits", "fits_launch"])
async def test_what_does_not_fit_is_run_in_halves_and_learnt(make_pool: MakePool, when: str) -> None:
    limits = Limits(max_batch_size=8, max_in_flight=2)
    pool = await make_pool(factory=FACTORY, limits=limits, seconds=0.02, **{when: 4})
    assert_right(await ask_all(pool, [None] * 20))
    assert pool.replicas[0].max_rows == 4
    assert pool.replicas[0].num_deaths == 0


@pytest.mark.parametrize("where", ["launch", "wait", "result"])
async def test_nothing_is_launched_while_a_batch_runs_in_parts(
    make_pool: MakePool, tmp_path: Path, where: str
) -> None:
    log = tmp_path / "calls"
    limits = Limits(max_batch_size=4, max_in_flight=2)
    pool = await make_pool(factory=FACTORY, limits=limits, seconds=0.03, calls=str(log))
    todo = [None, None, f"raise_in_{where}", *[None] * 13]
    await asyncio.gather(
        *(ask(pool, number, name=str(number), do=do) for number, do in enumerate(todo)),
        return_exceptions=True,
    )
    made = [call for call, *_ in calls(log)]
    first = made.index("infer")
    last = len(made) - 1 - made[::-1].index("infer")
    assert made.count("infer") == 4
    assert "launch" not in made[first:last]
    assert "launch" in made[last:]


async def test_of_two_batches_in_flight_the_culprit_of_a_fault_is_found_and_nobody_else_pays(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=0.03)
    assert_right(await ask_all(pool, [None, None, "break", None, None, None]), but=2)
    assert pool.counters["deaths_device_fault"] == pool.replicas[0].num_deaths == 3


async def test_a_fault_that_shows_only_in_the_batch_behind_costs_nobody_an_answer(
    make_pool: MakePool,
) -> None:
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=0.03)
    results = await ask_all(pool, [None, "break_behind", None, None, None])
    assert_right(results)
    assert pool.counters["deaths_device_fault"] >= 1
    assert any(result.num_replays for result in results if isinstance(result, Result))


async def test_a_worker_that_dies_with_two_batches_in_flight_loses_neither(
    make_pool: MakePool, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    pool = await make_pool(factory=FACTORY, limits=SINGLES, seconds=0.2, calls=str(log))
    tasks = [asyncio.create_task(ask(pool, number, name=str(number))) for number in range(3)]
    await until(lambda: log.exists() and ["launch", "1"] in calls(log))
    os.kill(pool.replicas[0].pid or 0, 9)
    results = await asyncio.gather(*tasks)
    assert [json.loads(result.payload)["crc"] for result in results] == [crc(0), crc(1), crc(2)]
    assert [result.num_replays for result in results] == [1, 1, 0]


class _Talk:
    """A worker's loop in a thread, talked to as the front does."""

    def __init__(self, **config: Any) -> None:
        self.slab = Slab(4, (8, 8, 3))
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(20)
        self._config = {"num_threads": 1, "num_cores": 1, "all_cores": [], **config}
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        message = encode(SlabMessage(4, [8, 8, 3]))
        socket.send_fds(self.ours, [message], [self.slab.descriptor])
        self.leases = [self.slab.lease() for _ in range(4)]
        for number, lease in enumerate(self.leases):
            lease.pixels[:] = picture(number)

    def _run(self) -> None:
        with self._theirs:
            arguments = {"max_result_bytes": 1 << 20, "check_timeout": 5.0, "writes_slots": False}
            _Server(self._theirs, Overlapping(self._config, "cpu"), arguments).run()

    def batch(self, number: int) -> bytes:
        lease = self.leases[number]
        return encode(Batch(number, [[lease.slot, lease.nonce, {}]]))

    def answers(self) -> list[tuple[int, int]]:
        """Number of the batch and checksum of the picture, until the worker has nothing more to say."""
        reader, found = FrameReader(1 << 20), []
        while chunk := self.ours.recv(65536):
            for message in reader.feed(chunk):
                assert isinstance(message, Done)
                found.append((message.batch_id, json.loads(message.payloads[0])["crc"]))
        return found

    def close(self) -> None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.ours.close()
        for lease in self.leases:
            lease.release()
        self.slab.close()


@pytest.mark.parametrize("is_asked", [True, False])
async def test_what_came_before_a_stop_or_the_end_of_the_socket_is_finished(is_asked: bool) -> None:
    talk = _Talk(seconds=0.05)
    batches = b"".join(talk.batch(number) for number in range(4))
    talk.ours.sendall(batches + (encode(Stop()) if is_asked else b""))
    if not is_asked:
        talk.ours.shutdown(socket.SHUT_WR)
    found = await asyncio.to_thread(talk.answers)
    assert found == [(number, crc(number)) for number in range(4)]
    talk.close()


async def test_a_batch_behind_a_stop_is_not_begun() -> None:
    talk = _Talk(seconds=0.05)
    talk.ours.sendall(talk.batch(0) + encode(Stop()) + talk.batch(1))
    assert await asyncio.to_thread(talk.answers) == [(0, crc(0))]
    talk.close()
