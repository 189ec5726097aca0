"""The memory budget: real processes of fake models that hold what they are told to."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pool import Placement, Pool
from server import estimate
from server.footprint import footprint
from server.room import MIB, SPARE_BYTES, Need, Room, Surroundings, default_budget
from tests.memory import memory_of
from tests.server.conftest import Running, error_of, known_model, serving, until
from tests.server.images import encode, scene

IMAGE = encode(scene())
BALLAST = 400 * MIB
ESTIMATE = 60 * MIB
MARGIN = BALLAST // 2
"""Between what a number of models takes and their budget: half of what it would take to load one more."""


class FakeReplica:
    """A worker that is this process, so that there is something to measure."""

    is_serving = True
    pid = os.getpid()
    placement = Placement()


class FakePool(Pool):
    """What the room looks at of a pool; hashed by identity."""

    slab_size = 0  # type: ignore[assignment]
    num_slots = 10  # type: ignore[assignment]

    def __init__(self, num_replicas: int = 1) -> None:
        self.name = "fake"
        self.fakes = [FakeReplica() for _ in range(num_replicas)]

    @property
    def replicas(self) -> Any:
        return self.fakes


@pytest.fixture(autouse=True)
def small_models(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(estimate, "forkserver_size", lambda preload: 0)
    monkeypatch.setattr(estimate, "conversion_size", lambda preload: 0)
    monkeypatch.setattr(estimate, "worker_size", lambda *of: ESTIMATE)
    monkeypatch.setattr(estimate, "input_side", lambda entry: 32)
    yield


def make_room(budget: int, available: int = 10**12, path: Path | None = None) -> Room:
    return Room(
        budget, Surroundings(dict, lambda known: ("torch",), lambda known: path, 8), lambda: available
    )


async def test_a_promise_counts_until_the_measure_replaces_it() -> None:
    room, pool = make_room(10_000 * MIB), FakePool()
    await room.look()
    free = room.free
    need = Need(3000 * MIB, 10 * MIB, ("w",))
    room.claim(pool, need)
    assert free - room.free == 3100 * MIB
    pool.fakes[0].is_serving = False
    await room.look()
    assert room.size(pool) == 3100 * MIB, "it still loads"
    pool.fakes[0].is_serving = True
    pool.slab_size = 20 * MIB
    assert room.is_due
    await room.look()
    assert not room.is_due
    measured = room.size(pool)
    peak = footprint(os.getpid()).peak
    assert abs(measured - peak - 20 * MIB) < 8 * MIB
    room.release(pool)
    assert room.size(pool) == 0


async def test_what_was_measured_is_remembered_for_the_same_weights_only(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"x" * 100)
    room, pool, known = make_room(10_000 * MIB, path=weights), FakePool(2), known_model("m", {})
    first = room.need(known, pool)
    assert first.total(pool) == 2 * ESTIMATE + 10 * 32 * 32 * 3
    room.claim(pool, first)
    await room.look()
    again = room.need(known, pool)
    assert again.worker != first.worker
    assert room.size(pool) == again.total(pool)
    weights.write_bytes(b"x" * 101)
    assert room.need(known, pool).worker == ESTIMATE, "another file"


async def test_the_machine_may_have_less_than_the_budget() -> None:
    room, pool = make_room(10**12, available=1000 * MIB), FakePool()
    await room.look()
    assert room.free == 1000 * MIB - SPARE_BYTES
    pool.fakes[0].is_serving = False
    room.claim(pool, Need(2 * footprint(os.getpid()).peak, 0, ("w",)))
    before = room.free
    await room.look()
    assert before < room.free < 1000 * MIB - SPARE_BYTES, "what it has taken is not promised any more"


def test_the_default_leaves_some_to_the_rest() -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < default_budget() <= total * 0.9


async def budget_for(models: Mapping[str, Any], num_models: int) -> int:
    """What lets `num_models` be loaded, the last one by its estimate: measured with a server of the same. The front is
    the test run's own process and shares libraries with its others: what it takes moves, by less than MARGIN."""
    gc.collect()
    async with serving(models) as running:
        assert (await running.infer(IMAGE, next(iter(models)))).status_code == 200
        room = running.engine.registry._room
        await room.look()
        sizes = [room.size(s.pool) for s in running.engine.registry.models.values() if s.pool is not None]
        return room.taken - sum(sizes) + int((num_models - 1) * max(sizes)) + BALLAST + ESTIMATE + MARGIN


async def ask_in_turn(running: Running, names: list[str], budget: int) -> tuple[int, int]:
    """The most that was loaded at once, and the most that the processes took. By what this one grows meanwhile is not
    counted: it has all other tests behind it, and none of that is in the account."""
    most_loaded = most_bytes = 0
    own_bytes = footprint(os.getpid()).fair
    for name in names:
        answer = await running.infer(IMAGE, name)
        assert answer.status_code == 200, answer.text
        loaded = [s for s in running.engine.registry.models.values() if s.pool is not None]
        most_loaded = max(most_loaded, len(loaded))
        num_bytes = await asyncio.to_thread(memory_of, os.getpid())
        most_bytes = max(most_bytes, num_bytes - max(0, footprint(os.getpid()).fair - own_bytes))
        assert most_bytes <= budget
    return most_loaded, most_bytes


async def test_asking_for_every_model_in_turn_never_passes_the_budget_nor_unloads_a_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "worker_size", lambda *of: BALLAST + ESTIMATE)
    names = [f"m{i}" for i in range(8)]
    models: dict[str, Any] = {name: {"ballast": BALLAST} for name in names}
    models["busy"] = {"ballast": BALLAST, "task": "vqa"}
    models["needed"] = {"ballast": BALLAST, "loads_at_start": True}
    budget = await budget_for(models, 4)
    marker = tmp_path / "go"
    async with serving(models, memory_budget=budget, max_loaded_models=100) as running:
        long = asyncio.create_task(running.infer(IMAGE, "busy", prompt=f"wait {marker}"))
        await until(lambda: running.engine.registry.models["busy"].is_ready)
        await until(lambda: running.pool("busy").snapshot()["in_flight"] == 1)
        pids = [running.pool(name).replicas[0].pid for name in ("busy", "needed")]
        most_loaded, _ = await ask_in_turn(running, names * 2, budget)
        assert 3 <= most_loaded <= 4, "the budget is used, and not exceeded"
        assert [running.pool(name).replicas[0].pid for name in ("busy", "needed")] == pids
        marker.touch()
        answer = await long
        assert answer.status_code == 200 and answer.json()["pid"] == pids[0]
        await ask_in_turn(running, names, budget)
        assert running.engine.registry.models["busy"].state == "unloaded", "idle, it makes room like others"
        assert running.engine.registry.models["needed"].is_ready


async def test_what_cannot_fit_is_refused_with_the_figures_and_nothing_is_unloaded_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving({"small": {}, "large": {}}) as running:
        assert (await running.infer(IMAGE, "small")).status_code == 200
        room = running.engine.registry._room
        await room.look()
        room.budget = room.taken + 10 * MIB
        monkeypatch.setattr(estimate, "worker_size", lambda *of: 10**14)
        answer = await running.infer(IMAGE, "large")
        assert (answer.status_code, error_of(answer)) == (503, "model_unavailable")
        message = answer.json()["error"]["message"]
        assert "it needs about 9536" in message and " MiB are free" in message
        assert "/" not in message
        assert running.engine.registry.models["small"].is_ready
        assert (await running.infer(IMAGE, "small")).status_code == 200


async def test_two_loads_at_once_do_not_count_on_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: {"load_seconds": 1.0} for name in "ab"}
    async with serving(models) as running:
        room = running.engine.registry._room
        await room.look()
        # One fits and two do not, with 300 MiB either way for what this process grows or shrinks by meanwhile.
        monkeypatch.setattr(estimate, "worker_size", lambda *of: 600 * MIB)
        room.budget = room.taken + 900 * MIB
        answers = await asyncio.gather(*(running.infer(IMAGE, name) for name in "ab"))
        assert sorted(answer.status_code for answer in answers) == [200, 503]
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert error_of(refused) == "model_unavailable"


async def test_a_required_model_without_room_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.served.FIRST_RETRY_DELAY", 0.1)
    async with serving({"echo": {"loads_at_start": True}}, wait=False, memory_budget=MIB) as running:
        model = running.engine.registry.models["echo"]
        await until(lambda: model.failure is not None)
        health = await running.client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        running.engine.registry._room.budget = 10**12
        started = time.monotonic()
        await until(lambda: model.is_ready)
        assert time.monotonic() - started < 20


async def test_what_was_measured_last_counts_while_nothing_can_be_measured() -> None:
    room = make_room(10**12, available=123)
    await room.look()
    free = room.free

    def no_descriptor() -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    room._get_available = no_descriptor
    await room.look()
    assert room.free == free
