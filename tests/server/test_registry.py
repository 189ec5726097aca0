"""Loading on demand, making room, failing, trying again: with real pools on fake models."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from server import registry, served
from tests.server.conftest import error_of, serving, until
from tests.server.images import encode, scene

IMAGE = encode(scene())


async def test_a_first_request_loads_its_model_and_is_answered() -> None:
    async with serving({"echo": {}, "other": {}}) as running:
        assert running.engine.registry.models["echo"].state == "unloaded"
        answer = await running.infer(IMAGE)
        assert answer.status_code == 200
        assert running.engine.registry.models["echo"].state == "ready"
        assert running.engine.registry.models["other"].state == "unloaded"


async def test_many_first_requests_make_one_load() -> None:
    async with serving({"echo": {"load_seconds": 0.3}}) as running:
        answers = await asyncio.gather(*(running.infer(IMAGE) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["pid"] for answer in answers}) == 1


async def test_who_waits_too_long_is_told_how_far_it_is_and_the_load_goes_on() -> None:
    async with serving({"echo": {"load_seconds": 3.0}}, load_timeout=0.3) as running:
        answer = await running.infer(IMAGE)
        assert (answer.status_code, error_of(answer)) == (503, "model_loading")
        await until(lambda: running.pool("echo").snapshot()["progress"] is not None)
        answer = await running.infer(IMAGE)
        assert (answer.status_code, error_of(answer)) == (503, "model_loading")
        assert "(download, 45 %)" in answer.json()["error"]["message"]
        await until(lambda: running.engine.registry.models["echo"].is_ready)
        assert (await running.infer(IMAGE)).status_code == 200


async def test_a_client_that_leaves_does_not_stop_a_load_that_others_want() -> None:
    # longer than the second in which a client that has closed its side may still wait for its reply
    async with serving({"echo": {"load_seconds": 3.0}}) as running:
        leaving = asyncio.create_task(running.infer(IMAGE))
        staying = asyncio.create_task(running.infer(IMAGE))
        await until(lambda: running.engine.registry.models["echo"].num_users == 2)
        leaving.cancel()
        await until(lambda: running.engine.registry.models["echo"].num_users == 1)
        assert (await staying).status_code == 200


async def test_waiters_for_loads_are_counted() -> None:
    async with serving({"echo": {"load_seconds": 1.0}}, max_load_waiters=2) as running:
        waiting = [asyncio.create_task(running.infer(IMAGE)) for _ in range(2)]
        await until(lambda: running.engine.registry.models["echo"].num_users == 2)
        answer = await running.infer(IMAGE)
        assert (answer.status_code, error_of(answer)) == (503, "model_loading")
        assert [(await task).status_code for task in waiting] == [200, 200]


async def test_missing_weights_are_said_and_everything_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_RETRY_DELAY", 0.4)
    config: dict[str, object] = {"fail": "weights_unavailable"}
    async with serving({"echo": {}, "lost": config}) as running:
        answer = await running.infer(IMAGE, "lost")
        assert (answer.status_code, error_of(answer)) == (503, "weights_unavailable")
        assert "inference-engine pull lost" in answer.json()["error"]["message"]
        model = running.engine.registry.models["lost"]
        assert (model.state, model.pool) == ("failed", None)
        again = await running.infer(IMAGE, "lost")
        assert error_of(again) == "weights_unavailable", "at once, within the back-off"
        assert model.num_failures == 1
        assert (await running.infer(IMAGE)).status_code == 200
        config.clear()  # the weights are there now
        await until(lambda: model.retry_at <= time.monotonic())
        assert (await running.infer(IMAGE, "lost")).status_code == 200
        assert (model.state, model.failure, model.num_failures) == ("ready", None, 0)


@pytest.mark.parametrize(
    ("code", "shown_code"),
    [
        ("weights_invalid", "weights_invalid"),
        ("weights_not_stored", "weights_not_stored"),
        ("weights_mismatch", "weights_mismatch"),
        ("unsupported_model", "unsupported_model"),
        ("runtime_unavailable", "runtime_unavailable"),
        ("unsafe_loading", "model_unavailable"),
    ],
)
async def test_wrong_weights_are_told_in_the_reply_and_in_the_list(code: str, shown_code: str) -> None:
    async with serving({"bad": {"fail": code, "permanent": True}}) as running:
        answer = await running.infer(IMAGE, "bad")
        assert (answer.status_code, error_of(answer)) == (503, shown_code)
        shown = (await running.client.get("/models/bad")).json()
        assert (shown["state"], shown["error"]["code"]) == ("failed", code)
        assert shown["error"]["message"] == answer.json()["error"]["message"]
        assert "bad" in shown["error"]["message"]


async def test_loading_again_counts_even_before_the_keeper_has_seen_the_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "KEEPER_INTERVAL", 60.0)
    config: dict[str, object] = {"fail": "weights_unavailable", "permanent": True}
    async with serving({"lost": config}) as running:
        model = running.engine.registry.models["lost"]
        await running.engine.registry.load(model)
        await until(lambda: model.state == "failed")
        assert model.pool is not None
        config.clear()  # the weights are there now
        await running.engine.registry.load(model)
        await until(lambda: model.is_ready)


async def test_retries_are_further_and_further_apart() -> None:
    async with serving({"lost": {"fail": "weights_unavailable"}}) as running:
        model = running.engine.registry.models["lost"]
        waits = []
        for _ in range(9):
            model.retry_at = 0.0
            answer = await running.infer(IMAGE, "lost")
            waits.append(round(model.retry_at - time.monotonic()))
            assert answer.status_code == 503
        assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
        answer = await running.infer(IMAGE, "lost")
        assert 295 <= int(answer.headers["retry-after"]) <= 300


async def test_the_idle_model_used_longest_ago_makes_room() -> None:
    async with serving({name: {} for name in "abc"}, max_loaded_models=2) as running:
        for name in ("a", "b", "a", "c"):
            assert (await running.infer(IMAGE, name)).status_code == 200
        states = {name: model.state for name, model in running.engine.registry.models.items()}
        assert states == {"a": "ready", "b": "unloaded", "c": "ready"}
        assert (await running.infer(IMAGE, "b")).status_code == 200
        assert running.engine.registry.models["a"].state == "unloaded"


async def test_a_model_that_a_request_is_about_to_use_never_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving({"a": {}, "b": {}}, max_loaded_models=1) as running:
        assert (await running.infer(IMAGE, "a")).status_code == 200
        registry_ = running.engine.registry
        async with registry_.use(registry_.models["a"]) as pool:
            assert pool.is_idle, "no slot is taken yet"
            assert error_of(await running.infer(IMAGE, "b")) == "model_unavailable"
        assert (await running.infer(IMAGE, "b")).status_code == 200


async def test_a_busy_or_required_model_never_makes_room(tmp_path: Path) -> None:
    models = {"needed": {"loads_at_start": True}, "busy": {"task": "vqa"}, "c": {}}
    async with serving(models, max_loaded_models=2) as running:
        marker = tmp_path / "go"
        assert (await running.infer(IMAGE, "busy", prompt="hello")).status_code == 200
        waiting = asyncio.create_task(running.infer(IMAGE, "busy", prompt=f"wait {marker}"))
        await until(lambda: running.pool("busy").snapshot()["in_flight"] == 1)
        answer = await running.infer(IMAGE, "c")
        assert (answer.status_code, error_of(answer)) == (503, "model_unavailable")
        marker.touch()
        assert (await waiting).status_code == 200
        assert (await running.infer(IMAGE, "c")).status_code == 200
        assert running.engine.registry.models["needed"].is_ready


@pytest.mark.parametrize(("on_demand", "expected"), [("all", 200), ("listed", 503), ("off", 503)])
async def test_what_may_load_on_demand_is_the_operators_choice(on_demand: str, expected: int) -> None:
    models = {"echo": {"loads_at_start": True}, "other": {}}
    async with serving(models, on_demand=on_demand) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        answer = await running.infer(IMAGE, "other")
        assert answer.status_code == expected
        if expected == 503:
            assert error_of(answer) == "model_unavailable"


async def test_a_required_model_that_failed_is_tried_again_without_being_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "KEEPER_INTERVAL", 0.05)
    monkeypatch.setattr(served, "FIRST_RETRY_DELAY", 0.2)
    config: dict[str, object] = {"fail": "weights_unavailable", "loads_at_start": True}
    async with serving({"echo": config}, wait=False) as running:
        model = running.engine.registry.models["echo"]
        await until(lambda: model.num_failures >= 2)
        health = await running.client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        del config["fail"]
        await until(lambda: model.is_ready)
        assert (await running.client.get("/healthz")).status_code == 200
        await until(lambda: model.failure is None)  # without anybody asking


async def test_a_model_that_fails_while_it_serves_is_told_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "KEEPER_INTERVAL", 0.05)
    config: dict[str, object] = {}
    async with serving({"echo": config}) as running:
        assert (await running.infer(IMAGE)).status_code == 200
        pool = running.pool("echo")
        pid = pool.replicas[0].pid
        assert pid is not None
        monkeypatch.setattr(served, "FIRST_RETRY_DELAY", 0.1)
        # Its next worker cannot load; the pool's own settings are as they were.
        monkeypatch.setitem(pool._supervisors[0]._recipe.config, "fail", "weights_unavailable")  # type: ignore[arg-type]
        os.kill(pid, signal.SIGKILL)
        model = running.engine.registry.models["echo"]
        await until(lambda: model.failure is not None)
        await until(lambda: model.retry_at <= time.monotonic())
        assert (await running.infer(IMAGE)).status_code == 200
        assert model.pool is not pool


async def test_unloading_while_a_load_is_under_way_ends_it() -> None:
    async with serving({"echo": {"load_seconds": 30}}, load_timeout=20) as running:
        waiting = asyncio.create_task(running.infer(IMAGE))
        model = running.engine.registry.models["echo"]
        await until(lambda: model.pool is not None)
        answer = await running.client.post("/models/echo/unload")
        assert answer.json()["state"] == "unloaded"
        refused = await waiting
        assert (refused.status_code, error_of(refused)) == (503, "model_unavailable")


async def test_the_keeper_survives_a_round_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KEEPER_INTERVAL", 0.02)
    num_rounds = 0

    def failing(*_: object) -> bool:
        nonlocal num_rounds
        num_rounds += 1
        raise ArithmeticError

    async with serving() as running:
        monkeypatch.setattr(running.engine.registry._recovery, "is_given_up", failing)
        await until(lambda: num_rounds >= 3)


async def test_a_model_that_is_better_laid_out_in_another_way_gets_a_new_pool_once_and_loses_nothing() -> (
    None
):
    async with serving({"echo": {"loads_at_start": True}}) as running:
        models, first = running.engine.registry, running.pool("echo")
        asked: list[object] = []

        def is_outdated(known: object, pool: object) -> bool:
            asked.append(pool)
            return pool is first

        model = models.models["echo"]
        model.laid_out, models._is_outdated = None, is_outdated
        answers = []
        while model.pool is first:
            answers.append(await running.infer(IMAGE))
        await until(lambda: model.laid_out is model.pool)
        answers.append(await running.infer(IMAGE))
        assert {answer.status_code for answer in answers} == {200}
        assert asked == [first, model.pool]
