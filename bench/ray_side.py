"""A Ray cluster on this machine with one engine that has every core; prints its address, ends with SIGTERM.

python -m bench.ray_side [SETTING=VALUE ...]
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile

import ray
from ray import serve

from server.ray_app import build
from server.ray_arguments import EngineArguments

MEMORY = 80_000_000


def free_port() -> int:
    """Nobody has it now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def main() -> None:
    """Until SIGTERM."""
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:])
    num_cores = len(os.sched_getaffinity(0))
    ended = {signal.SIGTERM, signal.SIGINT}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            "local",
            num_cpus=num_cores,
            include_dashboard=False,
            object_store_memory=MEMORY,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            port = free_port()
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            arguments = EngineArguments(num_cpus=num_cores, num_gpus=0, max_replicas=1, **settings)  # type: ignore[arg-type]
            serve.run(build(arguments), name="engine", route_prefix="/")
            signal.pthread_sigmask(signal.SIG_BLOCK, ended)
            print(f"serving on http://127.0.0.1:{port}", flush=True)
            signal.sigwait(ended)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
