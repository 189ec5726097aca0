"""Everything that can go wrong while weights come, through one real server: each ends clearly, and alone.

Both hosts are real HTTP servers on loopback, reached by the settings for mirrors. Meanwhile another model is asked all
the time. The server may not write files larger than 32 MiB, which is how a full disk is brought about.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.models import fake_hub, file_server
from tests.models.blip_folder import save_blip
from tests.models.fake_hub import FakeHub
from tests.models.file_server import ServedFile
from tests.serving import RunningServer, running_server
from tests.test_end_to_end import SAMPLES, WEIGHTS, as_raw

SAMPLE = (SAMPLES / "sample.jpg").read_bytes()
MAX_FILE_BYTES = 32 << 20
SMALL_FILES = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2);"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
MAX_LAUNCHES = 3
"""Workers that are started for one load before it counts as failed."""

GOOD = {
    "yolov8n": "works",
    "yolov8s": "is cut twice and continued",
    "yolov8m": "answers 429 once and names a second",
    "yolov8l": "answers 500 once",
}
BAD = {
    "yolo11n": "weights_invalid",  # not the hash that the settings give
    "yolo11s": "weights_unavailable",  # 404
    "yolo11m": "weights_unavailable",  # 429, come back in an hour
    "yolo11l": "weights_unavailable",  # 500 for ever
    "yolo11x": "weights_unavailable",  # accepts and is silent
    "yolo12n": "weights_unavailable",  # a login page
    "yolo12s": "weights_not_stored",  # the disk is full
    "yolo12m": "weights_not_stored",  # the folder cannot be written to
    "yolo12l": "weights_invalid",  # looks like a checkpoint, is none
}


@dataclass
class Witness:
    """Asks another model all the time, and remembers what it was told."""

    statuses: set[int] = field(default_factory=set)
    num_answers: int = 0

    def watch(self, url: str, is_over: threading.Event) -> None:
        while not is_over.is_set():
            self.statuses.add(as_raw(url + "/inference", SAMPLE).status_code)
            self.num_answers += 1
            is_over.wait(0.3)


@dataclass
class Stage:
    """The server, the two hosts, the folders."""

    server: RunningServer
    hub: FakeHub
    folder: Path
    down: ExitStack
    """Closing it ends both hosts."""
    witness: Witness
    replies: dict[str, httpx.Response] = field(default_factory=dict)

    def ask(self, model: str, **options: Any) -> httpx.Response:
        return as_raw(self.server.url + "/inference", SAMPLE, model_id=model, **options)

    def model(self, name: str) -> Any:
        return self.server.get(f"/models/{name}")

    def wait_for_state(self, name: str, state: str) -> Any:
        deadline = time.monotonic() + 60
        while (shown := self.model(name))["state"] != state:
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)
        return shown

    @property
    def num_launches(self) -> int:
        return self.server.log.read_text().count("backoff -> starting")


def assets(weights: bytes, never: threading.Event) -> dict[str, ServedFile]:
    third = len(weights) // 3
    return {
        "yolov8n": ServedFile(weights),
        "yolov8s": ServedFile(weights, cut_at=third, num_cuts=2),
        "yolov8m": ServedFile(weights, status=429, num_failures=1, retry_after="1"),
        "yolov8l": ServedFile(weights, status=500, num_failures=1),
        "yolo11n": ServedFile(weights),
        "yolo11s": ServedFile(b"", status=404),
        "yolo11m": ServedFile(b"", status=429, retry_after="3600"),
        "yolo11l": ServedFile(b"", status=500),
        "yolo11x": ServedFile(b"", gate=never),
        "yolo12n": ServedFile(b"<html>sign in</html>"),
        "yolo12s": ServedFile(b"PK\x03\x04" + bytes(MAX_FILE_BYTES)),
        "yolo12m": ServedFile(weights),
        "yolo12l": ServedFile(b"PK\x03\x04" + bytes(1000)),
    }


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    never = threading.Event()
    served = assets(WEIGHTS.read_bytes(), never)  # of a real network; which one does not matter here
    tiny = save_blip(folder / "tiny")
    hub = FakeHub("Salesforce/blip-vqa-base", {path.name: path.read_bytes() for path in tiny.iterdir()})
    hub.files["more.txt"] = bytes(12 << 20)
    (folder / "cache" / "yolo12m.pt.lock").mkdir(parents=True)
    (folder / "engine.toml").write_text(f'[models.yolo11n]\nsha256 = "{"0" * 64}"\n')
    witness, is_over = Witness(), threading.Event()
    with ExitStack() as stack:
        down = stack.enter_context(ExitStack())
        down.callback(never.set)
        url = down.enter_context(file_server.serving_all(lambda name: served[name.removesuffix(".pt")]))
        down.enter_context(fake_hub.serving(hub))
        options = {
            "config": folder / "engine.toml",
            "yolo-weights-url": url,
            "hf-endpoint": hub.url,
            "download-timeout": 2,
            "replicas": 1,
            "max-loaded-models": 32,
            "max-queue-size": 4,
            "max-batch-size": 2,
            "log-format": "json",
        }
        server = stack.enter_context(
            running_server(
                *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
                environment={
                    "ULTRALYTICS_CACHE_DIR": str(folder / "cache"),
                    "HUGGINGFACE_HUB_CACHE": str(folder / "hub"),
                    "ENGINE_DECODE": "thread",  # the memory of decoders is a file that is larger than is allowed here
                },
                wrapper=[sys.executable, "-c", SMALL_FILES, str(MAX_FILE_BYTES)],
            )
        )
        thread = threading.Thread(target=witness.watch, args=(server.url, is_over))
        thread.start()
        stack.callback(thread.join)
        stack.callback(is_over.set)
        stack.callback(never.set)
        yield Stage(server, hub, folder, down, witness)


@pytest.fixture(scope="module")
def answered(stage: Stage) -> Stage:
    """All models of the asset host were asked at once."""
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        names = [*GOOD, *BAD]
        stage.replies.update(zip(names, clients.map(stage.ask, names), strict=True))
    for name in BAD:
        stage.wait_for_state(name, "failed")
    return stage


def assert_says_nothing_of_the_machine(stage: Stage, text: str) -> None:
    for secret in (str(stage.folder), "127.0.0.1", "http://", ".pt", "Error"):
        assert secret not in text


@pytest.mark.parametrize("model", GOOD)
def test_what_passes_by_itself_is_waited_out_and_the_first_request_is_answered(
    answered: Stage, model: str
) -> None:
    reply = answered.replies[model]
    assert reply.status_code == 200, (GOOD[model], reply.text)
    assert answered.model(model)["state"] == "ready"
    assert (answered.folder / "cache" / f"{model}.pt").is_file()


@pytest.mark.parametrize("model", BAD)
def test_what_does_not_pass_has_a_code_a_remedy_and_a_time_to_try_again(answered: Stage, model: str) -> None:
    reply = answered.replies[model]
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, BAD[model])
    assert int(reply.headers["retry-after"]) >= 1
    assert model in error["message"]
    assert_says_nothing_of_the_machine(answered, reply.text)
    shown = answered.model(model)
    assert (shown["state"], shown["error"]["code"]) == ("failed", BAD[model])
    assert_says_nothing_of_the_machine(answered, str(shown))


@pytest.mark.parametrize(("model", "part"), [
    ("yolo11n", "expected 000000"), ("yolo11s", "answered 404"), ("yolo11m", "answered 429"), ("yolo11l", "answered 500"),
    ("yolo11x", "ReadTimeout"), ("yolo12n", "login page"), ("yolo12s", "File too large"), ("yolo12m", "yolo12m.pt.lock"),
    ("yolo12l", "not a loadable checkpoint"),
])  # fmt: skip
def test_the_log_tells_the_operator_why(answered: Stage, model: str, part: str) -> None:
    def lines() -> list[str]:
        return [line for line in answered.server.log.read_text().splitlines() if '"model failed"' in line]

    # a load that failed while nobody waited for it any more is seen by the keeper, a moment later
    deadline = time.monotonic() + 30
    while not any(model in line and part in line for line in lines()):
        assert time.monotonic() < deadline, lines()
        time.sleep(0.1)


def test_no_load_is_tried_for_ever(answered: Stage) -> None:
    num_loads = 1 + len(GOOD) + len(BAD) * MAX_LAUNCHES  # the first is the demo model's
    assert answered.num_launches <= num_loads
    again = answered.ask("yolo11s")
    assert again.json()["error"]["code"] == "weights_unavailable"
    assert int(again.headers["retry-after"]) >= 1
    assert answered.num_launches <= num_loads, "at once, without a worker"


def test_nothing_half_done_is_taken_for_weights(answered: Stage) -> None:
    there = {path.name for path in (answered.folder / "cache").glob("*.pt")}
    assert there == {f"{model}.pt" for model in (*GOOD, "yolo12l")}


# The hub: one model, one case after the other.

HUB = "blip-vqa-base"


def ask_hub(stage: Stage, **behaviour: Any) -> httpx.Response:
    """Forget what there is of the model, let the hub behave, ask."""
    httpx.post(f"{stage.server.url}/models/{HUB}/unload", timeout=60).raise_for_status()
    shutil.rmtree(stage.folder / "hub", ignore_errors=True)
    fresh = {
        "status": 200,
        "num_failures": None,
        "retry_after": None,
        "cut_at": None,
        "gate": None,
        "lies": False,
    }
    for name, value in {**fresh, **behaviour}.items():
        setattr(stage.hub, name, value)
    return stage.ask(HUB, prompt="how many cats are there?", max_new_tokens=3)


@pytest.mark.parametrize("behaviour", [
    {}, {"cut_at": 11 << 20}, {"status": 429, "num_failures": 1, "retry_after": "1"}, {"status": 500, "num_failures": 1},
], ids=["works", "cut", "429 once", "500 once"])  # fmt: skip
def test_a_hub_that_recovers_is_waited_for(stage: Stage, behaviour: dict[str, Any]) -> None:
    reply = ask_hub(stage, **behaviour)
    assert reply.status_code == 200, reply.text
    assert reply.json()["task"] == "vqa"
    if "cut_at" in behaviour:
        assert stage.hub.ranges == [f"bytes={10 << 20}-"], "what had arrived is kept"


@pytest.mark.parametrize("behaviour", [
    {"status": 404}, {"status": 429, "retry_after": "3600"}, {"status": 500}, {"gate": threading.Event()}, {"lies": True},
], ids=["404", "429", "500", "silent", "not what it lists"])  # fmt: skip
def test_a_hub_that_does_not_recover_makes_weights_unavailable(
    stage: Stage, behaviour: dict[str, Any]
) -> None:
    before = stage.num_launches
    reply = ask_hub(stage, **behaviour)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, "weights_unavailable")
    assert f"inference-engine pull {HUB}" in error["message"]
    assert_says_nothing_of_the_machine(stage, reply.text)
    assert stage.wait_for_state(HUB, "failed")["error"]["code"] == "weights_unavailable"
    assert stage.num_launches - before <= MAX_LAUNCHES
    if "gate" in behaviour:
        behaviour["gate"].set()


def test_a_cache_of_the_hub_that_cannot_be_written_to_is_about_storage(stage: Stage) -> None:
    httpx.post(f"{stage.server.url}/models/{HUB}/unload", timeout=60).raise_for_status()
    shutil.rmtree(stage.folder / "hub", ignore_errors=True)
    (stage.folder / "hub").write_text("a file where the folder should be")
    stage.hub.status, stage.hub.lies, stage.hub.gate = 200, False, None
    reply = stage.ask(HUB)
    assert reply.json()["error"]["code"] == "weights_not_stored"
    assert stage.wait_for_state(HUB, "failed")["error"]["code"] == "weights_not_stored"
    (stage.folder / "hub").unlink()


def test_hosts_that_are_down_make_weights_unavailable_and_they_come_when_the_host_is_back(
    stage: Stage,
) -> None:
    stage.down.close()
    for reply in (stage.ask("yolov9t"), ask_hub(stage)):
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "weights_unavailable")
    for name in ("yolov9t", HUB):
        stage.wait_for_state(name, "failed")
    shutil.copyfile(WEIGHTS, stage.folder / "cache" / "yolov9t.pt")  # brought by hand
    httpx.post(f"{stage.server.url}/models/yolov9t/load", timeout=60).raise_for_status()
    stage.wait_for_state("yolov9t", "ready")
    assert stage.ask("yolov9t").status_code == 200


def test_all_the_while_the_other_model_answered(stage: Stage) -> None:
    assert stage.witness.statuses == {200}
    assert stage.witness.num_answers > 20
    assert stage.server.process.poll() is None
