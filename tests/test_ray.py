"""The engine on a real Ray cluster of two nodes: spread, lost, back, faster, ended.

Ray has HAProxy as its proxy, on the head alone, and less time to drain than it takes by itself; TEST_RAY_PROXY=python
takes its own proxy.

Every inference sleeps `WAIT` before the engine has it, one after another on each replica (tests/ray_cluster.py): what
can be answered grows with replicas, not with cores, of which a machine that runs tests has few.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.marked import kill_marked, marked
from tests.memory import tree
from tests.serving import CONVERTED_DIR

pytest.importorskip("ray", reason="needs the extra `ray`")

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = (ROOT / "models/demo/samples/sample.jpg").read_bytes()
PROXY = os.environ.get("TEST_RAY_PROXY", "haproxy")
WAIT = 0.4
NUM_CLIENTS = 4
SECONDS = 3.0
SETTINGS = {
    "load_at_start": "shapes-detect",
    "converted_dir": str(CONVERTED_DIR),
    "threads": "1",
    "give_up_after": "5",
    "precision": "fp32",
}


@dataclass
class RayCluster:
    """`process` is tests/ray_cluster.py."""

    process: subprocess.Popen[str]
    seen: Path
    url: str = ""
    metrics_url: str = ""

    @property
    def arrived(self) -> set[str]:
        """Ids of the questions that have reached a replica."""
        return {path.name for path in self.seen.iterdir()}

    def reached(self, answer: Answer) -> str:
        """The process of the replica that had this question."""
        return (self.seen / answer.id).read_text()

    def read(self) -> dict[str, Any]:
        """Its next line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    return said
        raise AssertionError("the cluster has ended")

    def begin(self, command: Any) -> None:
        """Do it; `read` waits until it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def do(self, command: Any) -> None:
        """And wait."""
        self.begin(command)
        assert self.read() == {"done": command}


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[str]:
    """With a short name: Ray puts sockets far below it, and their paths have a limit."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield name


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, ray_folder: str) -> Iterator[RayCluster]:
    folder = tmp_path_factory.mktemp("ray")
    seen = folder / "seen"
    seen.mkdir()
    mark = f"test-cluster-{uuid.uuid4().hex}"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ENGINE_", "RAY_"))},
        "TEST_CLUSTER": mark,
        "TEST_CLUSTER_SEEN": str(seen),
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "160",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": uuid.uuid4().hex,
        "RAY_SERVE_ENABLE_HA_PROXY": str(int(PROXY == "haproxy")),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        "RAY_worker_niceness": "0",
        "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",  # the one proxy would fill the replica beside it first
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_metrics_report_interval_ms": "1000",
        "YOLO_OFFLINE": "true",
    }
    log = folder / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_cluster", json.dumps(SETTINGS), ray_folder],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        with process:
            cluster = RayCluster(process, seen)
            try:
                said = cluster.read()
                cluster.url = f"http://127.0.0.1:{said['port']}"
                cluster.metrics_url = f"http://127.0.0.1:{said['metrics_port']}/metrics"
                yield cluster
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(timeout=60) == 0, log.read_text()
            finally:
                kill_marked(mark)
    finally:
        assert not marked(mark)


def wait_until(holds: Callable[[], bool]) -> None:
    """Raises AssertionError after ten seconds."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass
class Answer:
    """`id` is the question's; status 0 where no answer came."""

    id: str
    status: int


async def ask(client: httpx.AsyncClient) -> Answer:
    """For one picture."""
    asked = uuid.uuid4().hex
    headers = {"content-type": "image/jpeg", "x-test-id": asked}
    try:
        reply = await client.post("/inference?model_id=shapes-detect", content=SAMPLE, headers=headers)
    except httpx.TransportError:
        return Answer(asked, 0)
    return Answer(asked, reply.status_code)


@contextlib.asynccontextmanager
async def load(url: str, answers: list[Answer]) -> AsyncIterator[None]:
    """`NUM_CLIENTS` that ask again at once, as long as the context is open; then their last answers are awaited."""
    ends = asyncio.Event()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def keep_asking() -> None:
            while not ends.is_set():
                answers.append(await ask(client))

        tasks = [asyncio.create_task(keep_asking()) for _ in range(NUM_CLIENTS)]
        try:
            yield
        finally:
            ends.set()
            await asyncio.gather(*tasks)


async def rate(cluster: RayCluster) -> tuple[float, int]:
    """Answers a second, and how many replicas gave them."""
    answers: list[Answer] = []
    async with load(cluster.url, answers):
        before = time.monotonic()
        await asyncio.sleep(SECONDS)
        seconds, num_answered = time.monotonic() - before, len(answers)
    assert {answer.status for answer in answers} == {200}
    return num_answered / seconds, len({cluster.reached(answer) for answer in answers})


@pytest.mark.timeout(300)
async def test_a_second_replica_raises_throughput_and_replacing_the_first_loses_nothing(
    cluster: RayCluster,
) -> None:
    """To deploy anew is a rollout for Ray, even where only the number of replicas differs."""
    alone, num_alone = await rate(cluster)
    answers: list[Answer] = []
    async with load(cluster.url, answers):
        await asyncio.to_thread(cluster.do, {"replicas": 2})
    both, num_both = await rate(cluster)

    print(f"one replica {alone:.2f}/s, two {both:.2f}/s; {len(answers)} answers meanwhile")
    assert {answer.status for answer in answers} == {200}
    assert len({cluster.reached(answer) for answer in answers}) >= 2
    assert (num_alone, num_both) == (1, 2)
    assert both > 1.3 * alone


async def test_a_reply_has_one_request_id_and_it_is_the_one_that_was_sent(cluster: RayCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False) as client:
        given = await client.get("/healthz", headers={"x-request-id": "a-request-of-mine"})
        made = await client.get("/healthz")
    assert given.headers.get_list("x-request-id") == ["a-request-of-mine"]
    assert len(made.headers.get_list("x-request-id")) == 1


@pytest.mark.skipif(
    PROXY == "haproxy", reason="HAProxy shares out by itself; only Ray's own proxy reads the header"
)
async def test_requests_that_name_their_model_in_a_header_go_where_that_was_before(
    cluster: RayCluster,
) -> None:
    headers = {"serve_multiplexed_model_id": "shapes-detect"}
    async with httpx.AsyncClient(
        base_url=cluster.url, timeout=60, headers=headers, trust_env=False
    ) as client:
        answers = [await ask(client) for _ in range(16)]
    print([cluster.reached(answer) for answer in answers])
    assert {answer.status for answer in answers} == {200}
    assert len({cluster.reached(answer) for answer in answers[4:]}) == 1


async def test_what_the_engine_counts_arrives_where_ray_is_scraped(cluster: RayCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False) as client:
        assert (await ask(client)).status == 200
        deadline = time.monotonic() + 60
        while not (counted := samples(await client.get(cluster.metrics_url), "ray_engine_requests_total")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert any(sample.labels["model"] == "shapes-detect" for sample in counted)
    assert all(sample.labels["replica"] and sample.labels["deployment"] == "Engine" for sample in counted)


def samples(page: httpx.Response, name: str) -> list[Sample]:
    """Those of one name."""
    families = text_string_to_metric_families(page.text)
    return [sample for family in families for sample in family.samples if sample.name == name]


@pytest.mark.timeout(300)
async def test_a_node_that_dies_takes_only_what_it_had_in_flight_and_capacity_comes_back(
    cluster: RayCluster,
) -> None:
    answers: list[Answer] = []
    async with load(cluster.url, answers):
        await asyncio.sleep(1)
        await asyncio.to_thread(cluster.do, "kill")
        num_before = len(answers)
        await asyncio.to_thread(cluster.do, "recover")
        assert any(answer.status == 200 for answer in answers[num_before:])
    failed = [answer for answer in answers if answer.status != 200]
    print(f"{len(answers)} answers, failed: {failed}")
    assert len(failed) <= NUM_CLIENTS
    assert len({cluster.reached(answer) for answer in failed}) <= 1
    assert not any(Path("/proc", cluster.reached(answer)).exists() for answer in failed)
    assert (await rate(cluster))[1] == 2


@pytest.mark.timeout(300)
async def test_a_node_that_is_told_to_end_loses_nothing(cluster: RayCluster) -> None:
    answers: list[Answer] = []
    async with load(cluster.url, answers):
        await asyncio.sleep(1)
        await asyncio.to_thread(cluster.do, "end")
        num_before = len(answers)
        await asyncio.sleep(2 * WAIT * NUM_CLIENTS)
    assert {answer.status for answer in answers} == {200}
    assert len({cluster.reached(answer) for answer in answers}) == 2
    assert len({cluster.reached(answer) for answer in answers[num_before + NUM_CLIENTS :]}) == 1


@pytest.mark.timeout(300)
async def test_a_replica_whose_models_cannot_live_is_replaced(cluster: RayCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False) as client:
        broken = cluster.reached(await ask(client))
        await asyncio.to_thread(keep_without_children, int(broken))
        deadline = time.monotonic() + 60
        while (answer := await ask(client)).status != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
    assert cluster.reached(answer) != broken


def keep_without_children(pid: int) -> None:
    """Until it has gone; raises AssertionError after two minutes."""
    deadline = time.monotonic() + 120
    while Path("/proc", str(pid)).exists():
        assert time.monotonic() < deadline
        for child in tree(pid)[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


@pytest.mark.timeout(120)
async def test_what_is_in_flight_is_answered_when_the_application_is_taken_away(cluster: RayCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=60, trust_env=False) as client:
        before = cluster.arrived
        asked = [asyncio.create_task(ask(client)) for _ in range(4)]
        await asyncio.to_thread(wait_until, lambda: len(cluster.arrived - before) == 4)
        assert not all(task.done() for task in asked)
        await asyncio.to_thread(cluster.do, "delete")
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 4
