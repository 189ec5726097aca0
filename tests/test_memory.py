"""The real server's memory: unloading gives it back, and a budget holds whatever is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.memory import MIB, memory_of, own_memory_of
from tests.models.file_server import ServedFile, serving
from tests.models.networks import save_yolo
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import SAMPLES, as_raw

IMAGE = (SAMPLES / "sample.jpg").read_bytes()
TOLERANCE = 4 * MIB
"""Of the same state measured twice: the heap of the front moves a little."""


def settled(server: RunningServer) -> int:
    """Bytes of the server once two measures half a second apart agree."""
    deadline = time.monotonic() + 20
    last = own_memory_of(server.process.pid)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = own_memory_of(server.process.pid)
        if abs(now - last) < MIB:
            return now
        last = now
    raise AssertionError("the server's memory does not come to rest")


def test_unloading_gives_all_memory_back() -> None:
    """After the first time, which starts the forkserver and fills the front's caches."""
    with running_server("--load-at-start", "", "--replicas", "1") as server:
        figures = {"before": settled(server)}
        for turn in (1, 2, 3):
            assert as_raw(server.url + "/inference", IMAGE).status_code == 200
            figures[f"loaded {turn}"] = settled(server)
            reply = httpx.post(server.url + "/models/shapes-detect/unload", timeout=60)
            assert reply.json()["state"] == "unloaded"
            figures[f"unloaded {turn}"] = settled(server)
        print({name: f"{size / MIB:.1f} MiB" for name, size in figures.items()})
        assert figures["loaded 3"] - figures["unloaded 3"] > 50 * MIB
        assert abs(figures["unloaded 3"] - figures["unloaded 1"]) < TOLERANCE


@contextmanager
def highest(server: RunningServer) -> Iterator[list[int]]:
    """The most that the server has taken, measured all the time: the only item."""
    most, is_over = [0], threading.Event()

    def measure() -> None:
        while not is_over.wait(0.1):
            most[0] = max(most[0], memory_of(server.process.pid))

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_walk_through_the_catalogue_stays_within_the_budget(tmp_path: Path) -> None:
    names = ("yolov8n", "yolov8s", "yolo11n", "yolo26n", "yolov8n-seg", "yolov8n-cls", "yolov8n-pose")
    bodies = {name: save_yolo(tmp_path / f"{name}.pt", f"{name}.yaml").read_bytes() for name in names}
    budget = 2000 * MIB
    (tmp_path / "cache").mkdir()
    with serving(ServedFile(b"")) as release:
        options = ["--yolo-weights-url", release.url, "--memory-budget", str(budget), "--replicas", "1"]
        environment = {"ULTRALYTICS_CACHE_DIR": str(tmp_path / "cache")}
        with (
            running_server(*options, "--max-loaded-models", "50", environment=environment) as server,
            highest(server) as most,
        ):
            loaded, num_unloads = 0, 0
            for name in (*names, *names):
                release.body = bodies[name]
                reply = as_raw(server.url + "/inference", IMAGE, model_id=name)
                assert reply.status_code == 200, reply.text
                models = server.get("/models")["models"]
                now = sum(model["state"] == "ready" for model in models)
                num_unloads += now <= loaded
                loaded = now
                print(f"{name}: {now} loaded, {memory_of(server.process.pid) / MIB:.0f} MiB", flush=True)
                assert most[0] <= budget
            assert server.get("/models/shapes-detect")["state"] == "ready", "loaded at start: never unloaded"
            reply = as_raw(server.url + "/inference", IMAGE, model_id="yolov8x")
            assert reply.status_code == 503
            assert "MiB of memory" in reply.json()["error"]["message"]
        print(f"at most {most[0] / MIB:.0f} MiB of {budget / MIB:.0f} MiB")
        assert num_unloads and 0.6 * budget < most[0] <= budget
