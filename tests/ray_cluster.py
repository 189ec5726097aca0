"""A Ray cluster of two nodes on this machine with the engine on it, told by lines what to do. A process of its own:

{"replicas": 2} | "kill" | "end" | "recover" | "delete"     on standard input, a line of JSON for each is answered

The head belongs to this process; the other node is started as on a machine of its own, by `ray start --block`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from starlette.types import ASGIApp, Receive, Scope, Send

from server.ray_app import RayEngine, deployment_of
from server.ray_arguments import EngineArguments
from tests.marked import kill_marked

HOST = "127.0.0.1"
MEMORY = 80_000_000
DEADLINE = 100.0
WAIT = 0.4
AGENT_PORTS = {
    "metrics_agent_port": "dashboard-agent-grpc-port",
    "metrics_export_port": "metrics-export-port",
    "dashboard_agent_listen_port": "dashboard-agent-listen-port",
    "runtime_env_agent_port": "runtime-env-agent-port",
}
"""By the name of Ray's parameter, the option of `ray start`. They are given because a node that must learn those of its
agents ends when they need more than 30 s to start, which no setting of Ray changes."""
SEEN = "TEST_CLUSTER_SEEN"
"""Names a folder: each request by its id, and in it the process that it reached."""


class Node:
    """The other one, with all that it starts."""

    def __init__(self, address: str) -> None:
        self._mark = f"{os.environ['TEST_CLUSTER']}-{uuid.uuid4().hex}"
        ports = zip(AGENT_PORTS.values(), free_ports(len(AGENT_PORTS)), strict=True)
        options = [f"--{option}={port}" for option, port in ports]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"]
        limits = ["--num-cpus=1", "--num-gpus=0", f"--object-store-memory={MEMORY}"]
        self._process = subprocess.Popen(
            [*command, *limits, "--include-log-monitor=false", *options],
            stdout=sys.stderr,
            env={**os.environ, "TEST_CLUSTER_NODE": self._mark},
        )

    def kill(self) -> None:
        """All its processes at once. The kernel still closes their connections, which a machine without power does not."""
        kill_marked(self._mark)
        self._process.wait()

    def end(self) -> None:
        """As Kubernetes ends a pod: by a signal, and what it does then is its own affair."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(DEADLINE)


def free_ports(number: int) -> list[int]:
    """Nobody has them, and the kernel gives them to nobody of itself: agents take seconds until they listen."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind((HOST, port))
            ports.append(port)
        if len(ports) == number:
            return ports
    raise AssertionError("no free ports")


class Slow:
    """One inference after another, `WAIT` each: what can be answered grows with replicas, not with cores."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/inference":
            request_id = dict(scope["headers"])[b"x-test-id"].decode()
            Path(os.environ[SEEN], request_id).write_text(str(os.getpid()))
            async with self._lock:
                await asyncio.sleep(WAIT)
        await self._app(scope, receive, send)


class SlowEngine(RayEngine):
    """A whole engine behind it."""

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Slow(super().__serve_build_asgi_app__())


def deploy(num_replicas: int, settings: dict[str, str]) -> None:
    """Returns when the deployment has so many replicas."""
    arguments = EngineArguments(
        num_cpus=1,
        num_gpus=0,
        min_replicas=num_replicas,
        max_replicas=num_replicas,
        max_ongoing_requests=100,
        **settings,  # type: ignore[arg-type]
    )
    serve.run(deployment_of(SlowEngine, arguments), name="engine", route_prefix="/")
    wait_running(num_replicas)


def wait_running(num_replicas: int) -> None:
    """Until that many are there and no other."""
    wait_until(lambda: states() == {"RUNNING": num_replicas}, lambda: str(states()))


def wait_until(holds: Callable[[], bool], describe: Callable[[], str]) -> None:
    """Raises AssertionError after `DEADLINE` seconds."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, describe()
        time.sleep(0.1)


def states() -> dict[str, int]:
    """How many replicas are in which state."""
    deployments = serve.status().applications["engine"].deployments
    return {str(state): number for state, number in deployments["Engine"].replica_states.items() if number}


def say(**fields: Any) -> None:
    """To who started us."""
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Until standard input ends."""
    settings, temp_dir = json.loads(sys.argv[1]), sys.argv[2]
    ports = dict(zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True))
    head = {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, "temp_dir": temp_dir}
    head |= {"include_log_monitor": False, "no_monitor": True}
    cluster: Any = Cluster(initialize_head=True, head_node_args={**head, **ports})
    other = Node(cluster.address)  # comes while the rest starts
    try:
        ray.init(address=cluster.address, namespace="serve", log_to_driver=False)
        port = free_ports(1)[0]
        serve.start(http_options={"host": HOST, "port": port, "location": "HeadOnly"})
        deploy(1, settings)
        say(port=port, metrics_port=ports["metrics_export_port"])
        obey(cluster.address, other, settings)
    finally:
        ray.shutdown()
        cluster.shutdown()


def obey(address: str, other: Node, settings: dict[str, str]) -> None:
    """One line after another."""
    for line in sys.stdin:
        command = json.loads(line)
        if command == "kill":
            other.kill()
            wait_until(lambda: states() != {"RUNNING": 2}, lambda: "Ray has not noticed")
        elif command == "end":
            other.end()
        elif command == "recover":
            other = Node(address)
            wait_running(2)
        elif command == "delete":
            serve.delete("engine")
        else:
            deploy(command["replicas"], settings)
        say(done=command)


if __name__ == "__main__":
    from tests import ray_cluster  # by its name: what is sent to the replicas must not be of `__main__`

    ray_cluster.main()
