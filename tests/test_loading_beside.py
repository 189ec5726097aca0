"""Downloading and loading one model does not slow another: measured on the real server, in turns with calm."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.models.file_server import ServedFile, serving
from tests.models.networks import save_yolo
from tests.serving import running_server
from tests.test_end_to_end import SAMPLES

NUM_ROUNDS = 2
NUM_CALM = 10
MIN_BESIDE = 10
"""Requests answered while the other model loads, in all rounds together."""
MAX_RATIO = 3.0
"""Of medians: the load takes its share of two cores, a blocked event loop would cost the whole download."""
DOWNLOAD_SECONDS = 2.5


def timed(ask: Callable[[], httpx.Response]) -> float:
    started = time.monotonic()
    assert ask().status_code == 200
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_download_and_a_load_beside_it_do_not_slow_a_model_or_the_loop(tmp_path: Path) -> None:
    weights = save_yolo(tmp_path / "any.pt").read_bytes()
    calm: dict[str, list[float]] = {"inference": [], "livez": []}
    beside: dict[str, list[float]] = {"inference": [], "livez": []}
    with serving(ServedFile(weights, rate=len(weights) / DOWNLOAD_SECONDS)) as release:
        environment = {"ULTRALYTICS_CACHE_DIR": str(tmp_path / "cache")}
        options = ("--yolo-weights-url", release.url, "--replicas", "1")
        with running_server(*options, environment=environment) as server, httpx.Client(timeout=60) as client:
            sample = (SAMPLES / "sample.jpg").read_bytes()

            def ask(model: str) -> httpx.Response:
                return client.post(
                    server.url + "/inference", params={"model_id": model}, content=sample,
                    headers={"content-type": "image/jpeg"},
                )  # fmt: skip

            def measure(into: dict[str, list[float]]) -> None:
                into["inference"].append(timed(lambda: ask("shapes-detect")))
                into["livez"].append(timed(lambda: client.get(server.url + "/livez")))

            for _ in range(NUM_CALM):  # everything that happens once has happened
                ask("shapes-detect")
            for _ in range(NUM_ROUNDS):
                for _ in range(NUM_CALM):
                    measure(calm)
                replies: list[httpx.Response] = []
                loading = threading.Thread(target=lambda: replies.append(ask("yolov8n")))  # noqa: B023
                loading.start()
                while loading.is_alive():
                    measure(beside)
                loading.join()
                assert [reply.status_code for reply in replies] == [200]
                client.post(f"{server.url}/models/yolov8n/unload").raise_for_status()
                (tmp_path / "cache" / "yolov8n.pt").unlink()
    assert len(beside["inference"]) >= MIN_BESIDE
    ratios = {name: statistics.median(beside[name]) / statistics.median(calm[name]) for name in calm}
    assert max(ratios.values()) < MAX_RATIO, ratios
    assert max(beside["livez"]) < DOWNLOAD_SECONDS, "the loop never stood still as long as a download takes"
