"""The deployment without a cluster: what it asks Ray for, what it gives the engine, and whom it trusts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

pytest.importorskip("ray", reason="needs the extra `ray`")

from pool import CoreBudget
from server.metrics import Metrics
from server.middleware import RequestScope
from server.operators import check_is_local

with warnings.catch_warnings(action="ignore"):  # Ray's own
    from server.ray_app import (
        Behind,
        RayEngine,
        build,
        gpus_of,
        is_settled,
        spare_front,
        wrap_lifespan,
    )
    from server.ray_arguments import EngineArguments, deployment_options
    from server.ray_cores import Cores
    from server.ray_metrics import RayMetrics
from server.settings import Settings
from server.settings_load import SettingsError, load_settings


def options(**arguments: Any) -> dict[str, Any]:
    made = EngineArguments(**arguments)
    return deployment_options(made, load_settings(made.given_settings))


def test_arguments_that_are_not_rays_are_settings_of_the_engine() -> None:
    arguments = EngineArguments(num_cpus="2", max_batch_size="4", load_at_start="shapes-detect")

    assert arguments.num_cpus == 2
    assert arguments.given_settings == {"max_batch_size": "4", "load_at_start": "shapes-detect"}
    assert load_settings(arguments.given_settings).max_batch_size == 4


def test_ray_gives_the_builder_what_stands_on_its_command_line() -> None:
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    given = {"num_cpus": "3", "max_replicas": "5", "load_at_start": "shapes-detect"}
    application = call_user_app_builder_with_args_if_necessary(build, given)

    deployment = application._bound_deployment
    assert deployment.ray_actor_options["num_cpus"] == 3
    assert deployment._deployment_config.autoscaling_config.max_replicas == 5
    assert deployment.init_args == ({"load_at_start": "shapes-detect"},)


def test_a_setting_that_there_is_none_of_is_refused_before_anything_is_deployed() -> None:
    with pytest.raises(SettingsError, match="max_batch_size"):
        options(max_batch_sise="4")


def test_a_replica_is_given_more_than_the_queue_of_a_model_holds() -> None:
    """So the engine refuses who is too many, and says when to come back."""
    settings = Settings()
    made = options()

    assert made["max_ongoing_requests"] > settings.max_queue_size + settings.max_batch_size
    assert made["autoscaling_config"].target_ongoing_requests == 2 * settings.max_batch_size
    assert made["graceful_shutdown_timeout_s"] > settings.deadline + settings.drain_timeout


def test_autoscaling_never_aims_at_more_than_a_replica_may_be_given() -> None:
    made = options(max_ongoing_requests=3)

    assert made["autoscaling_config"].target_ongoing_requests == 3
    assert made["max_queued_requests"] == 3


def test_a_number_of_waiting_requests_that_ray_does_not_have_is_refused() -> None:
    """Ray has -1 for any number, and no 0."""
    assert options(max_queued_requests=-1)["max_queued_requests"] == -1
    with pytest.raises(ValueError, match="max_queued_requests"):
        build(EngineArguments(max_queued_requests=0))


def test_a_gpu_is_asked_for_where_the_settings_name_one() -> None:
    assert options(device="cpu")["ray_actor_options"]["num_gpus"] == 0
    assert options(device="cuda")["ray_actor_options"]["num_gpus"] == 1
    assert options(device="cuda", num_gpus=2)["ray_actor_options"]["num_gpus"] == 2


def test_engines_share_the_cores_of_a_machine_with_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first would take them all, and the other GPUs have none."""
    monkeypatch.setattr("server.ray_arguments.usable_cores", lambda: CoreBudget(32))
    monkeypatch.setattr("server.ray_arguments.count_gpus", lambda: 8)

    def cores(**arguments: Any) -> float:
        return float(options(**arguments)["ray_actor_options"]["num_cpus"])

    assert cores(device="cuda") == 4
    assert cores(device="cuda", num_gpus=2) == 8
    assert cores(device="cuda", num_gpus=8) == 32
    assert cores(device="cuda", num_cpus=3) == 3
    assert cores(device="cpu") == 32
    monkeypatch.setattr("server.ray_arguments.count_gpus", lambda: 0)
    assert cores(device="cuda") == 32


def test_who_is_too_many_for_ray_is_told_when_to_come_back() -> None:
    assert options()["backpressure_config"].retry_after_s == 1


async def test_a_replica_has_started_when_its_models_are_there_and_the_engine_leaves_before_it_stops() -> (
    None
):
    happened: list[str] = []
    served = SimpleNamespace(model_id="a", is_required=True, failure=None, is_ready=False, state="loading")

    async def page() -> bytes:
        happened.append("scraped")
        return b""

    engine: Any = SimpleNamespace(
        registry=SimpleNamespace(models={"a": served}),
        scrape=SimpleNamespace(page=page),
        leave=lambda: happened.append("left"),
    )

    @contextlib.asynccontextmanager
    async def inner(app: Starlette) -> AsyncIterator[None]:
        yield
        happened.append("stopped")

    app = Starlette(lifespan=inner)
    wrap_lifespan(app, engine)
    lifespan = app.router.lifespan_context(app)
    starting = asyncio.create_task(lifespan.__aenter__())
    while "scraped" not in happened:
        await asyncio.sleep(0)
    assert not starting.done()
    served.is_ready = True
    await asyncio.wait_for(starting, 10)
    assert "ray-metrics" in {task.get_name() for task in asyncio.all_tasks()}

    await lifespan.__aexit__(None, None, None)

    assert happened == ["scraped", "left", "stopped"]
    assert "ray-metrics" not in {task.get_name() for task in asyncio.all_tasks()}


def test_the_engine_sees_the_gpus_that_ray_assigned_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")

    assert load_settings(gpus_of({"GPU": ["2", "3"]})).cuda_visible_devices == "2,3"
    assert load_settings(gpus_of({"GPU": []})).cuda_visible_devices == ""
    assert load_settings(gpus_of({})).cuda_visible_devices == ""


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Engines that run on this machine meanwhile are no concern of the test."""
    monkeypatch.setattr("server.ray_cores._NAME", f"\0test-{os.getpid()}.")
    yield


def test_two_engines_of_one_machine_get_different_cores(own_names: None) -> None:
    first = Cores(2, tuple(range(4)))
    second = Cores(1.5, tuple(range(4)))

    assert first.numbers == (0, 1)
    assert second.numbers == (2, 3)
    assert second.num_shared == 0
    second.release()
    first.release()


def test_cores_are_free_again_once_released_and_shared_where_too_few_are_left(own_names: None) -> None:
    first = Cores(2, tuple(range(3)))
    crowded = Cores(2, tuple(range(3)))
    assert crowded.numbers == (0, 2)
    assert crowded.num_shared == 1
    crowded.release()
    first.release()

    again = Cores(3, tuple(range(3)))
    assert (again.numbers, again.num_shared) == ((0, 1, 2), 0)
    again.release()


def test_an_engine_takes_as_many_cores_as_ray_assigned_and_is_pinned_to_them(
    own_names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[tuple[int, ...]] = []
    monkeypatch.setattr(Cores, "pin", lambda self: pinned.append(self.numbers))
    engine = RayEngine({})

    assert engine._take(1.5, CoreBudget.of(range(4))) == CoreBudget(2, (0, 1))
    assert pinned == [(0, 1)]
    assert engine._cores is not None
    engine._cores.release()


def test_under_a_quota_an_engine_counts_what_ray_assigned_and_claims_no_core() -> None:
    """Another container's engines would claim the same ones."""
    for assigned, num_cores in ((1.5, 2), (4.0, 3)):
        engine = RayEngine({})
        assert engine._take(assigned, CoreBudget(3)) == CoreBudget(num_cores)
        assert engine._cores is None


def test_engines_of_half_a_core_share_all_cores_evenly(own_names: None) -> None:
    engines = [Cores(0.5, (0, 1, 2)) for _ in range(6)]

    assert [engine.numbers for engine in engines] == [(0,), (1,), (2,)] * 2
    for engine in engines:
        engine.release()


def test_when_memory_is_short_a_worker_dies_before_its_front(tmp_path: Path) -> None:
    """Ray starts replicas with 1000; a worker of ours asks for 500."""
    for name, score in (("self", "1000"), (str(os.getppid()), "0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "oom_score_adj").write_text(score)

    spare_front(tmp_path)

    assert 0 < int((tmp_path / "self/oom_score_adj").read_text()) < 500


async def _receive() -> Message:
    raise AssertionError("nothing is read")


async def _send(message: Message) -> None:
    raise AssertionError("nothing is sent")


async def test_nobody_is_a_local_operator_behind_rays_proxy() -> None:
    """The proxy, or one before it, may be on this machine: its address says nothing of who asks."""
    from starlette.requests import Request

    from server.errors import RequestFailedError

    seen: list[Request] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(Request(scope))

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "client": ("127.0.0.1", 5), "headers": headers, "method": "POST", "path": "/"}
    check_is_local(Request(scope))  # without Ray it is one

    await Behind(app, RayEngine({}))(scope, _receive, _send)
    with pytest.raises(RequestFailedError, match="forbidden"):
        check_is_local(seen[0])


@pytest.mark.parametrize("given", [None, "mine-1"])
async def test_a_reply_has_the_requests_id_once(given: str | None) -> None:
    """Behind what Ray's proxy has around every request."""
    from ray.serve._private.http_util import RequestIdMiddleware

    app = RequestScope(PlainTextResponse("answer"), Metrics())
    proxied = RequestIdMiddleware(Behind(app, RayEngine({})))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=proxied), base_url="http://engine"
    ) as client:
        reply = await client.get("/livez", headers={"x-request-id": given} if given else None)

    ids = reply.headers.get_list("x-request-id")
    assert len(ids) == 1 and (given is None or ids == [given])


async def test_a_request_that_ray_cancels_is_one_whose_client_has_left() -> None:
    """Not one that a server refused that stops, which would be told of in metrics and logs."""
    reads = asyncio.Event()
    said: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reads.set()
        said.append(await receive())

    async def receive() -> Message:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    metrics = Metrics()
    scope = {"type": "http", "client": None, "headers": [], "method": "GET", "path": "/"}
    task = asyncio.create_task(Behind(RequestScope(app, metrics), RayEngine({}))(scope, receive, _send))
    await asyncio.wait_for(reads.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert said == [{"type": "http.disconnect"}]
    counted = {
        (sample.labels["status"], sample.labels["code"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "engine_requests_total"
    }
    assert counted == {("0", "")}


def engine_of(**served: Any) -> Any:
    """What is looked at of an engine with one required model and one other."""
    required = SimpleNamespace(**{"model_id": "a", "is_required": True, "failure": None, **served})
    other = SimpleNamespace(model_id="b", is_required=False, is_ready=False, state="unloaded", failure=None)
    return SimpleNamespace(registry=SimpleNamespace(models={"a": required, "b": other}))


async def test_a_replica_is_healthy_until_it_is_given_up() -> None:
    engine = RayEngine({})
    engine._engine = engine_of(is_ready=True, state="ready")
    await engine.check_health()

    engine._give_up()

    with pytest.raises(RuntimeError):
        await engine.check_health()


async def test_a_replica_that_never_had_its_models_is_refused_and_one_that_had_them_mends_itself() -> None:
    """Ray would end good replicas of the version before for it."""
    engine = RayEngine({})
    engine._engine = made = engine_of(
        is_ready=False, state="failed", failure=SimpleNamespace(code="weights_unavailable")
    )
    with pytest.raises(RuntimeError, match=r"a \(weights_unavailable\)$"):
        await engine.check_health()

    made.registry.models["a"].is_ready = True
    await engine.check_health()
    made.registry.models["a"].is_ready = False
    await engine.check_health()


@pytest.mark.parametrize(
    ("state", "failure", "settled"),
    [("loading", None, False), ("loading", ValueError(), True), ("crash_looping", None, True)],
)
def test_start_ends_when_a_required_model_is_ready_or_cannot_be(
    state: str, failure: Exception | None, settled: bool
) -> None:
    assert is_settled(engine_of(is_ready=False, state=state, failure=failure)) is settled


class Sink:
    made: dict[str, Sink]

    def __init__(self, name: str, description: str, tags: tuple[str, ...]) -> None:
        self.tags, self.got = tags, list[tuple[float, dict[str, str]]]()
        Sink.made[name] = self

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.got.append((value, tags))

    inc = set  # noqa: A003


def test_counters_reach_ray_as_what_was_added_and_gauges_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    Sink.made = {}
    monkeypatch.setattr("server.ray_metrics.ray_metrics.Counter", Sink)
    monkeypatch.setattr("server.ray_metrics.ray_metrics.Gauge", Sink)
    metrics = RayMetrics(None)  # type: ignore[arg-type]
    counted = '# TYPE engine_requests counter\nengine_requests_total{model="m"} %d\n'
    gauge = '# TYPE engine_busy gauge\nengine_busy{replica="0"} 5\n'
    timed = '# TYPE engine_s histogram\nengine_s_bucket{le="+Inf"} 3\nengine_s_count 3\nengine_s_sum 0.5\n'

    metrics.carry(counted % 2 + gauge + timed)
    metrics.carry(counted % 7)

    assert Sink.made["engine_requests"].got == [(2, {"model": "m"}), (5, {"model": "m"})]
    assert Sink.made["engine_busy"].got == [(5, {"model_replica": "0"}), (0, {"model_replica": "0"})]
    assert Sink.made["engine_s_count"].got == [(3, {})]
    assert Sink.made["engine_s_sum"].got == [(0.5, {})]
    assert "engine_s_bucket" not in Sink.made


def test_a_counter_that_begins_anew_is_counted_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Sink.made = {}
    monkeypatch.setattr("server.ray_metrics.ray_metrics.Counter", Sink)
    metrics = RayMetrics(None)  # type: ignore[arg-type]
    page = "# TYPE engine_requests counter\nengine_requests_total %d\n"

    for value in (7, 7, 2, 3, 0, 1):
        metrics.carry(page % value)

    assert [value for value, _ in Sink.made["engine_requests"].got] == [7, 2, 1, 1]


async def test_metrics_are_carried_over_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a page of many models takes tens of milliseconds, in which nobody would be answered."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    threads: list[int] = []

    def carry(self: RayMetrics, page: str) -> None:
        threads.append(threading.get_ident())
        loop.call_soon_threadsafe(done.set)

    async def page() -> bytes:
        return b""

    monkeypatch.setattr(RayMetrics, "carry", carry)
    scrape: Any = SimpleNamespace(page=page)
    running = asyncio.create_task(RayMetrics(scrape).run())
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    await asyncio.wait([running])

    assert threads and threading.get_ident() not in threads
