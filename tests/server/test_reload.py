"""A model is reloaded while it serves: real pools on fake models, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from pool import Pool
from server.room import MIB
from tests.server.conftest import Running, error_of, serving, until
from tests.server.images import encode, scene

IMAGE = encode(scene())


async def reload(running: Running, model_id: str = "echo") -> httpx.Response:
    return await running.client.post(f"/models/{model_id}/reload")


async def ask(pool: Pool) -> dict[str, Any]:
    """One request as the route makes it, from its slot on."""
    deadline = time.monotonic() + 20
    with await pool.lease(deadline) as lease:
        result = await pool.infer(lease, {}, deadline)
    answer: dict[str, Any] = json.loads(result.payload)
    return answer


def is_alive(pid: int | None) -> bool:
    assert pid is not None
    return Path(f"/proc/{pid}").exists()


async def test_after_a_reload_answers_come_from_the_new_weights_and_the_old_process_is_gone() -> None:
    config: dict[str, object] = {"version": 1, "loads_at_start": True}
    async with serving({"echo": config}) as running:
        before = (await running.infer(IMAGE)).json()
        config["version"] = 2
        assert (await running.infer(IMAGE)).json()["version"] == 1, "nobody has reloaded yet"
        answer = await reload(running)
        assert (answer.status_code, answer.json()["state"]) == (200, "ready")
        assert (await running.infer(IMAGE)).json()["version"] == 2
        await until(lambda: not is_alive(before["pid"]))
        await until(lambda: not running.engine.registry.models["echo"].closing)
        shown = (await running.client.get("/models/echo")).json()
        assert (shown["state"], shown["reloading"], shown["required"]) == ("ready", None, True)


async def test_who_got_the_old_pool_is_answered_by_it_however_far_the_request_is(tmp_path: Path) -> None:
    config: dict[str, object] = {"version": 1, "task": "vqa"}
    marker = tmp_path / "go"
    async with serving({"ask": config}) as running:
        assert (await running.infer(IMAGE, "ask", prompt="hello")).status_code == 200
        model, old = running.engine.registry.models["ask"], running.pool("ask")
        in_flight = [
            asyncio.create_task(running.infer(IMAGE, "ask", prompt=f"wait {marker}")) for _ in range(12)
        ]
        await until(lambda: old.snapshot()["in_flight"] + old.snapshot()["queue_length"] == 12)
        assert old.snapshot()["queue_length"], "some run, some wait"
        deadline = time.monotonic() + 20
        async with running.engine.registry.use(model) as early:  # before its slot
            with await old.lease(deadline) as lease:  # with a slot that is not filled yet
                config["version"] = 2
                assert (await reload(running, "ask")).status_code == 200
                assert (await running.infer(IMAGE, "ask", prompt="hello")).json()["version"] == 2
                shown = (await running.client.get("/models/ask")).json()
                assert (shown["state"], shown["reloading"]["state"]) == ("ready", "draining")
                assert early is old is not running.pool("ask")
                marker.touch()
                answers = [answer.json() for answer in await asyncio.gather(*in_flight)]
                assert {answer["version"] for answer in answers} == {1}
                assert json.loads((await old.infer(lease, {}, deadline)).payload)["version"] == 1
            assert (await ask(early))["version"] == 1
            assert is_alive(old.replicas[0].pid)
        await until(lambda: old.state == "stopped")
        assert (await running.infer(IMAGE, "ask", prompt="hello")).json()["version"] == 2


async def test_under_load_every_request_is_answered_and_no_old_answer_follows_the_switch() -> None:
    config: dict[str, object] = {"version": 0, "seconds": 0.01}
    async with serving({"echo": config}) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        is_over = asyncio.Event()
        seen: list[tuple[float, int]] = []

        async def client() -> None:
            while not is_over.is_set():
                began = time.monotonic()
                answer = await running.infer(IMAGE)
                assert answer.status_code == 200, answer.text
                seen.append((began, answer.json()["version"]))

        clients = [asyncio.create_task(client()) for _ in range(16)]
        switched = []
        for version in (1, 2, 3):
            config["version"] = version
            assert (await reload(running)).status_code == 200
            switched.append(time.monotonic())
        await until(lambda: seen[-1][1] == 3)
        is_over.set()
        await asyncio.gather(*clients)
        for version, at in enumerate(switched):
            assert all(got > version for began, got in seen if began > at)
        assert {got for _, got in seen} == {0, 1, 2, 3}


async def test_the_new_pool_begins_with_the_rate_of_the_old_one() -> None:
    config: dict[str, object] = {"seconds": 0.2}
    async with serving({"echo": config}) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        old = running.pool("echo")._assignment._rate.row_seconds
        assert old >= 0.2
        assert (await reload(running)).status_code == 200
        assert running.pool("echo")._assignment._rate.row_seconds == old


@pytest.mark.parametrize(
    ("broken", "code", "says"),
    [
        ({"fail": "weights_unavailable"}, "weights_unavailable", "pull"),
        ({"fail": "weights_invalid", "permanent": True}, "weights_invalid", "sha256"),
        ({"fail": "unsupported_model", "permanent": True}, "unsupported_model", "kind that is not served"),
        ({"dies": True}, "model_unavailable", "(load_failed)"),
    ],
)
async def test_weights_that_cannot_be_loaded_leave_the_old_ones_serving(
    broken: dict[str, object], code: str, says: str
) -> None:
    config: dict[str, object] = {"version": 1}
    async with serving({"echo": config}) as running:
        before = (await running.infer(IMAGE)).json()
        config.update(broken)
        answer = await reload(running)
        assert (answer.status_code, error_of(answer)) == (503, code)
        assert says in answer.json()["error"]["message"]
        after = (await running.infer(IMAGE)).json()
        assert (after["pid"], after["version"]) == (before["pid"], 1)
        model = running.engine.registry.models["echo"]
        assert (model.state, model.failure, model.incoming) == ("ready", None, None)
        for name in broken:
            del config[name]
        config["version"] = 2
        assert (await reload(running)).status_code == 200
        assert (await running.infer(IMAGE)).json()["version"] == 2


async def test_without_memory_for_both_the_old_one_serves_on() -> None:
    config: dict[str, object] = {"version": 1}
    async with serving({"echo": config}) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        running.engine.registry._room.budget = 16 * MIB  # less than is taken already
        answer = await reload(running)
        assert (answer.status_code, error_of(answer)) == (503, "model_unavailable")
        assert "MiB of memory, 0 MiB of 16 MiB are free" in answer.json()["error"]["message"]
        assert (await running.infer(IMAGE)).json()["version"] == 1
        assert running.engine.registry.models["echo"].reloading is None


async def test_a_second_reload_meanwhile_is_refused_and_progress_is_shown() -> None:
    config: dict[str, object] = {"version": 1}
    async with serving({"echo": config}) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        config.update(load_seconds=1.0, version=2)
        first = asyncio.create_task(reload(running))
        model = running.engine.registry.models["echo"]
        await until(lambda: model.incoming is not None and model.incoming.snapshot()["progress"] is not None)
        shown = (await running.client.get("/models/echo")).json()
        assert shown["state"] == "ready"
        assert shown["reloading"] == {
            "state": "loading",
            "progress": {"stage": "download", "done_bytes": 45, "total_bytes": 100},
        }
        second = await reload(running)
        assert (second.status_code, error_of(second)) == (409, "reload_in_progress")
        assert (await first).status_code == 200
        assert (await running.infer(IMAGE)).json()["version"] == 2


async def test_a_reload_that_takes_long_is_told_so_and_goes_on() -> None:
    config: dict[str, object] = {"version": 1, "loads_at_start": True}
    async with serving({"echo": config}, load_timeout=0.5) as running:
        config.update(load_seconds=1.5, version=2)
        answer = await reload(running)
        assert (answer.status_code, error_of(answer)) == (503, "model_loading")
        assert "45 %" in answer.json()["error"]["message"]
        assert (await running.infer(IMAGE)).json()["version"] == 1
        await until(lambda: running.engine.registry.models["echo"].reloading is None)
        assert (await running.infer(IMAGE)).json()["version"] == 2


async def test_a_reload_of_what_is_not_loaded_is_a_load() -> None:
    async with serving({"echo": {}}) as running:
        answer = await reload(running)
        assert (answer.status_code, answer.json()["state"]) in ((202, "loading"), (200, "ready"))
        await until(lambda: running.engine.registry.models["echo"].is_ready)


async def test_who_waits_for_a_load_is_answered_by_the_reload_that_overtakes_it() -> None:
    config: dict[str, object] = {"version": 1, "load_seconds": 60.0}
    async with serving({"echo": config}) as running:
        waiting = asyncio.create_task(running.infer(IMAGE))
        model = running.engine.registry.models["echo"]
        await until(lambda: model.pool is not None)
        config.update(version=2, load_seconds=0.0)
        assert (await reload(running)).status_code == 200
        answer = await waiting
        assert (answer.status_code, answer.json()["version"]) == (200, 2)


async def test_unloading_during_a_reload_ends_both_pools() -> None:
    config: dict[str, object] = {"version": 1}
    async with serving({"echo": config}) as running:
        pid = (await running.infer(IMAGE)).json()["pid"]
        config["load_seconds"] = 60.0
        reloading = asyncio.create_task(reload(running))
        model = running.engine.registry.models["echo"]
        await until(lambda: model.incoming is not None and model.incoming.replicas[0].pid is not None)
        assert model.incoming is not None
        incoming = model.incoming.replicas[0].pid
        answer = await running.client.post("/models/echo/unload")
        assert (answer.status_code, answer.json()["state"]) == (200, "unloaded")
        refused = await reloading
        assert (refused.status_code, error_of(refused)) == (503, "model_unavailable")
        assert "unloaded meanwhile" in refused.json()["error"]["message"]
        assert not is_alive(pid) and not is_alive(incoming)
        config["load_seconds"] = 0.0
        assert (await running.infer(IMAGE)).status_code == 200


async def test_a_stop_during_a_reload_leaves_no_process() -> None:
    config: dict[str, object] = {"version": 1, "loads_at_start": True}
    async with serving({"echo": config}) as running:
        config["load_seconds"] = 60.0
        reloading = asyncio.create_task(reload(running))
        model = running.engine.registry.models["echo"]
        await until(lambda: model.incoming is not None and model.incoming.replicas[0].pid is not None)
        assert model.incoming is not None
        pids = [model.incoming.replicas[0].pid, running.pool("echo").replicas[0].pid]
        await running.engine.registry.stop()
        refused = await reloading
        assert (refused.status_code, error_of(refused)) == (503, "shutting_down")
        assert not any(map(is_alive, pids))
        assert model.state == "unloaded" and os.getpid() not in pids
