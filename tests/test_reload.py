"""The real server under load while the weights of a model are replaced: nobody notices but by the answers."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import RunningServer, running_server
from tests.test_end_to_end import SAMPLES, WEIGHTS

NUM_CLIENTS = 16
IMAGE = (SAMPLES / "sample.jpg").read_bytes()
TOLERANCE = 1e-3
"""Of a confidence and, in hundreds of pixels, of a box: neighbours in a batch change the last digits."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's: two names for copies of the shipped weights, one of them pinned, and weights to come."""
    import torch

    folder = tmp_path_factory.mktemp("operator")
    sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    (folder / "engine.toml").write_text(
        'load_at_start = ["shapes"]\n[models.shapes]\nweights = "shapes.pt"\ntask = "detect"\nreplicas = 1\n'
        f'[models.pinned]\nweights = "pinned.pt"\nsha256 = "{sha256}"\ntask = "detect"\nreplicas = 1\n'
    )
    for name in ("shapes", "pinned"):
        shutil.copy(WEIGHTS, folder / f"{name}.pt")
    checkpoint: dict[str, Any] = torch.load(WEIGHTS, weights_only=False)
    network = checkpoint["model"]
    network.names = {index: f"new {name}" for index, name in network.names.items()}
    with torch.no_grad():
        for branch in network.model[-1].cv3:
            branch[-1].bias -= 0.5  # less sure of everything
    torch.save(checkpoint, folder / "next.pt")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    # a machine that is busy with other things must not make requests late
    with running_server("--config", str(folder / "engine.toml"), "--deadline", "90") as server:
        yield server


def ask(client: httpx.Client, model: str = "shapes") -> list[dict[str, Any]]:
    reply = client.post(
        "/inference", params={"model_id": model}, content=IMAGE, headers={"content-type": "image/jpeg"}
    )
    assert reply.status_code == 200, reply.text
    predictions: list[dict[str, Any]] = reply.json()["predictions"]
    return predictions


def is_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    return [each["label"] for each in found] == [each["label"] for each in expected] and all(
        abs(a["confidence"] - b["confidence"]) < TOLERANCE
        and all(abs(a["box"][side] - b["box"][side]) < 100 * TOLERANCE for side in b["box"])
        for a, b in zip(found, expected, strict=True)
    )


def test_under_load_every_request_is_answered_by_the_old_or_the_new_weights(
    server: RunningServer, folder: Path
) -> None:
    is_over = threading.Event()

    def keep_asking(client: httpx.Client) -> list[tuple[float, float, list[dict[str, Any]]]]:
        answers = []
        while True:
            is_last = is_over.is_set()  # so that everybody asks once after the switch
            began = time.monotonic()
            found = ask(client)
            answers.append((began, time.monotonic(), found))
            if is_last:
                return answers

    with httpx.Client(base_url=server.url, timeout=100) as client:
        old = ask(client)
        with ThreadPoolExecutor(NUM_CLIENTS) as threads:
            asking = [threads.submit(keep_asking, client) for _ in range(NUM_CLIENTS)]
            try:
                replaced = time.monotonic()
                (folder / "next.pt").replace(folder / "shapes.pt")
                reply = client.post("/models/shapes/reload")
                switched = time.monotonic()
                assert (reply.status_code, reply.json()["state"]) == (200, "ready"), reply.text
                pids = {replica["pid"] for replica in reply.json()["replicas"]}
                new = ask(client)
            finally:
                is_over.set()
            by_client = [each.result() for each in asking]
    assert not is_same(old, new) and {each["label"] for each in new} == {f"new {e['label']}" for e in old}
    answers = [answer for answers in by_client for answer in answers]
    kinds = [[is_same(found, new) for _, _, found in answers] for answers in by_client]
    for (began, ended, found), is_new in zip(answers, (kind for each in kinds for kind in each), strict=True):
        assert is_new or is_same(found, old), found
        assert is_new or began < switched
        assert not is_new or ended > replaced
    assert all(kind == sorted(kind) for kind in kinds), (
        "who has seen the new weights never sees the old again"
    )
    num_new = sum(map(sum, kinds))
    assert num_new >= NUM_CLIENTS and len(answers) - num_new >= NUM_CLIENTS
    print(f"{len(answers)} answers, {num_new} of the new weights; reload took {switched - replaced:.1f} s")
    deadline = time.monotonic() + 30
    while server.get("/models/shapes")["reloading"] is not None:  # the old pool is on its way out
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shown = server.get("/models/shapes")
    assert {replica["pid"] for replica in shown["replicas"]} == pids
    assert all(label.startswith("new ") for label in shown["labels"])


def test_weights_whose_sum_is_wrong_do_not_take_the_place_of_those_that_serve(
    server: RunningServer, folder: Path
) -> None:
    with httpx.Client(base_url=server.url, timeout=100) as client:
        before = ask(client, "pinned")
        (folder / "swap.pt").write_bytes((folder / "pinned.pt").read_bytes() + b"one byte more")
        (folder / "swap.pt").replace(folder / "pinned.pt")
        reply = client.post("/models/pinned/reload")
        assert reply.status_code == 503
        error = reply.json()["error"]
        assert error["code"] == "weights_invalid"
        assert str(folder) not in reply.text
        assert server.get("/models/pinned")["state"] == "ready"
        assert is_same(ask(client, "pinned"), before)
        shutil.copy(WEIGHTS, folder / "pinned.pt")
        assert client.post("/models/pinned/reload").status_code == 200
        assert is_same(ask(client, "pinned"), before)
