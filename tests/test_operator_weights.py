"""The real server with an operator's weights that are not what `engine.toml` says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hostile.leaks import leaks_in
from tests.models.networks import save_yolo
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import as_raw, photo
from tests.test_on_demand import wait_for_state

REFUSED = {
    "wrong-task": ("weights_mismatch", "is for task pose, the settings say segment"),
    "no-such-head": ("weights_mismatch", "has no end-to-end head"),
    "open-vocabulary": ("unsupported_model", "networks that end in WorldDetect are not served"),
    "no-network": ("weights_invalid", "is not a loadable checkpoint"),
    "runs-code": ("weights_invalid", "is not a loadable checkpoint"),
}


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> object:
        return os.system, (f"touch {self._trace}",)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    import torch
    from ultralytics.nn.tasks import WorldModel

    folder = tmp_path_factory.mktemp("operator")
    save_yolo(folder / "pose.pt", "yolov8n-pose.yaml")
    torch.save({"model": WorldModel("yolov8s-world.yaml", verbose=False)}, folder / "world.pt")
    torch.save({"model": {"image_encoder.weight": torch.zeros(3)}}, folder / "sam.pt")
    torch.save({"model": Evil(folder / "trace")}, folder / "evil.pt")
    (folder / "engine.toml").write_text(
        """
        [models]
        pose = { weights = "pose.pt", replicas = 1 }
        wrong-task = { weights = "pose.pt", task = "segment", replicas = 1 }
        no-such-head = { weights = "pose.pt", end2end = true, replicas = 1 }
        open-vocabulary = { weights = "world.pt", replicas = 1 }
        no-network = { weights = "sam.pt", replicas = 1 }
        runs-code = { weights = "evil.pt", replicas = 1 }
        """
    )
    with running_server("--config", str(folder / "engine.toml"), "--load-at-start", "") as server:
        yield server
    assert not (folder / "trace").exists(), "code in weights was run"


def test_without_a_task_in_the_settings_the_weights_say_it(server: RunningServer) -> None:
    assert server.get("/models/pose")["task"] is None
    reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id="pose", confidence=0.2)
    assert (reply.status_code, reply.json()["task"]) == (200, "pose"), reply.text
    assert server.get("/models/pose")["task"] == "pose"


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_are_not_what_the_settings_say_are_refused_by_code_and_in_words(
    server: RunningServer, name: str
) -> None:
    code, logged = REFUSED[name]
    reply = as_raw(server.url + "/inference", photo("bus.jpg"), model_id=name)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, code), reply.text
    assert name in error["message"]
    assert leaks_in(reply.text) == [] and leaks_in(httpx.get(f"{server.url}/models/{name}").text) == []
    wait_for_state(server, name, "failed")
    assert server.get(f"/models/{name}")["error"] == {"code": code, "message": error["message"]}
    assert logged in server.log.read_text(), "the log says what the reply does not"
    assert httpx.get(server.url + "/healthz").status_code == 200
