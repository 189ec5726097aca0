"""The two YOLO models that the engine is first asked for, at full size, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.networks import save_yolo
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import as_raw, assert_same_boxes, photo
from tests.test_on_demand import wait_for_state

NAMES = ("yolov8n", "yolov8s")
CONFIDENCE = 0.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands in for what was downloaded."""
    folder = tmp_path_factory.mktemp("cache")
    for name in NAMES:
        save_yolo(folder / f"{name}.pt", f"{name}.yaml", 640)
    for name in ("bus.jpg", "zidane.jpg"):
        (folder / name).write_bytes(photo(name))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    environment = {"ULTRALYTICS_CACHE_DIR": str(folder), "ENGINE_OFFLINE": "true", "ENGINE_LOAD_AT_START": ""}
    with running_server(environment=environment) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_full_size_networks_are_loaded_when_asked_for_and_answer_like_the_library(
    server: RunningServer, folder: Path, name: str
) -> None:
    from ultralytics import YOLO

    library: Any = YOLO(folder / f"{name}.pt")
    for picture in ("bus.jpg", "zidane.jpg"):
        expected = library.predict(folder / picture, rect=False, conf=CONFIDENCE, verbose=False)[0].boxes
        assert len(expected) >= 20  # or the comparison says nothing
        raw = as_raw(server.url + "/inference", photo(picture), model_id=name, confidence=CONFIDENCE)
        assert raw.status_code == 200, server.log.read_text()
        assert_same_boxes(raw.json()["predictions"], expected)
    wait_for_state(server, name, "ready")
    shown = server.get(f"/models/{name}")
    assert shown["input"] == {"height": 640, "width": 640}
    assert shown["task"] == "detect"
