"""A model whose workers keep dying, over HTTP; and when the server gives up."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from pool import Limits, LoadFailedError
from server.recovery import Recovery
from tests.server.conftest import error_of, serving, until
from tests.server.test_reload import IMAGE

LIMITS = Limits(breaker_failures=3, breaker_retry=30.0)


def model(state: str, code: str | None = None, is_required: bool = True) -> Any:
    """As much of a `Served` as is looked at."""
    failure = LoadFailedError(code, "") if code else None
    return SimpleNamespace(state=state, is_ready=state == "ready", failure=failure, is_required=is_required)


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([model("crash_looping")], True),
        ([model("crash_looping"), model("failed", "device_lost")], True),
        ([model("loading", "device_lost")], True),
        ([model("crash_looping"), model("ready")], False),
        ([model("crash_looping"), model("ready", is_required=False)], True),
        ([model("failed", "weights_unavailable")], False),
        ([model("loading")], False),
        ([model("crash_looping", is_required=False)], False),
    ],
)
def test_it_gives_up_when_no_required_model_can_come_back(models: list[Any], expected: bool) -> None:
    recovery = Recovery(120.0)
    assert not recovery.is_given_up(models, 0.0)
    assert not recovery.is_given_up(models, 119.0)
    assert recovery.is_given_up(models, 120.0) is expected


def test_hope_in_between_starts_the_time_anew() -> None:
    recovery = Recovery(10.0)
    assert not recovery.is_given_up([model("crash_looping")], 0.0)
    assert not recovery.is_given_up([model("ready")], 9.0)
    assert not recovery.is_given_up([model("crash_looping")], 11.0)
    assert recovery.is_given_up([model("crash_looping")], 21.0)


def test_without_a_limit_it_never_gives_up() -> None:
    recovery = Recovery(0.0)
    assert not recovery.is_given_up([model("crash_looping")], 0.0)
    assert not recovery.is_given_up([model("crash_looping")], 1e9)


async def test_a_crash_loop_is_refused_at_once_shown_and_disturbs_no_other_model() -> None:
    models = {"echo": {"loads_at_start": True}, "dies": {"dies": True, "loads_at_start": True}}
    async with serving(models, limits=LIMITS, wait=False) as running:
        served = running.engine.registry.models["dies"]
        await until(lambda: served.state == "crash_looping")
        reply = await running.infer(IMAGE, "dies")
        assert (reply.status_code, error_of(reply)) == (503, "model_unavailable")
        assert 1 <= int(reply.headers["retry-after"]) <= 30
        await until(lambda: running.engine.registry.models["echo"].is_ready)
        assert (await running.infer(IMAGE)).status_code == 200
        health = await running.client.get("/healthz")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert health.json()["models"]["dies"]["state"] == "crash_looping"
        assert (await running.client.get("/livez")).status_code == 200


async def test_one_dead_worker_with_a_living_sibling_is_no_reason_to_be_unready() -> None:
    models = {"echo": {"loads_at_start": True, "load_seconds": 0.5}}
    async with serving(models, num_replicas=2) as running:
        replicas = running.pool("echo").replicas
        await until(lambda: all(replica.is_serving for replica in replicas))
        os.kill(replicas[0].pid or 0, signal.SIGKILL)
        await until(lambda: not replicas[0].is_serving)
        reply: httpx.Response = await running.client.get("/healthz")
        assert reply.status_code == 200
        assert reply.json()["models"]["echo"]["ready_replicas"] == 1


async def test_the_server_is_told_when_there_is_no_hope() -> None:
    models = {"dies": {"dies": True, "loads_at_start": True}}
    async with serving(models, limits=LIMITS, wait=False, give_up_after=0.1) as running:
        given_up: list[bool] = []
        running.engine.registry.on_given_up = lambda: given_up.append(True)
        await until(lambda: bool(given_up))
