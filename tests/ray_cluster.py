"""A Ray cluster of two nodes on this machine with the engine on it, told by lines what to do. A process of its own:

{"replicas": 2} | "kill" | "recover" | "delete"     on standard input, a line of JSON for each is answered
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.cluster_utils import Cluster
from starlette.types import ASGIApp, Receive, Scope, Send

from server.ray_app import EngineArguments, RayEngine, deployment_of

MEMORY = 80_000_000
DEADLINE = 100.0
WAIT = 0.4
AGENT_PORTS = (
    "metrics_agent_port",
    "metrics_export_port",
    "dashboard_agent_listen_port",
    "runtime_env_agent_port",
)
SEEN = "TEST_CLUSTER_SEEN"
"""Names a folder: each request by its id, and in it the process that it reached."""


def _node() -> dict[str, Any]:
    """Ports are given because a node that must learn those of its agents ends when they need more than 30 s to start,
    which no setting of Ray changes."""
    ports = dict(zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True))
    return {"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False, **ports}


def free_ports(number: int) -> list[int]:
    """Nobody has them, and the kernel gives them to nobody of itself: agents take seconds until they listen."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 200):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
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
    deadline = time.monotonic() + DEADLINE
    while states() != {"RUNNING": num_replicas}:
        assert time.monotonic() < deadline, states()
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
    settings = json.loads(sys.argv[1])
    cluster: Any = Cluster(initialize_head=True, head_node_args=_node())
    other: Any = None
    try:
        ray.init(address=cluster.address, namespace="serve", log_to_driver=False)
        port = free_ports(1)[0]
        serve.start(http_options={"host": "127.0.0.1", "port": port, "location": "HeadOnly"})
        deploy(1, settings)
        say(port=port)
        for line in sys.stdin:
            command = json.loads(line)
            if command == "kill":
                cluster.remove_node(other, allow_graceful=False)
            elif command == "recover":
                other = cluster.add_node(**_node())
                wait_running(2)
            elif command == "delete":
                serve.delete("engine")
            else:
                if other is None and command["replicas"] > 1:
                    other = cluster.add_node(**_node())
                deploy(command["replicas"], settings)
            say(done=command)
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    from tests import ray_cluster  # by its name: what is sent to the replicas must not be of `__main__`

    ray_cluster.main()
