from __future__ import annotations

import inspect
import os
import threading
from pathlib import Path

import pytest

from models.catalogue import CATALOGUE
from server.doctor.network import Question, argument, check_network, questions, release_address
from server.doctor.probe import Answer, Probe
from tests.models import fake_hub
from tests.models.fake_hub import FakeHub
from tests.models.file_server import ServedFile, serving
from tests.server.doctor.machine import settings_of

YOLO, BLIP = CATALOGUE["yolov8s"], CATALOGUE["blip-vqa-base"]
URL = "http://user:secret@127.0.0.1:1/yolov8s.pt"
REQUIRED = Question(URL, "yolov8s", True)


def ask(*urls: str, limit: float = 60.0) -> Answer:
    """What the probe brings from real hosts on loopback."""
    asked = [Question(url, "x", False) for url in urls]
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return Probe("server.doctor.network_probe", kept, limit, argument(asked)).answer()


def test_nobody_is_asked_where_nothing_may_be_downloaded() -> None:
    assert questions(settings_of(offline=True), [(YOLO, True)]) == []
    assert "offline" in check_network(settings_of(offline=True), [], Answer(), {})[0].text
    assert questions(settings_of(on_demand="off"), [(CATALOGUE["shapes-detect"], True)]) == []
    assert check_network(settings_of(on_demand="off"), [], Answer(), {})[0].status == "ok"


def test_one_question_for_each_host_the_most_needed_model_first() -> None:
    settings = settings_of(yolo_weights_url="http://127.0.0.1:1/a/", hf_endpoint="http://127.0.0.1:2")
    asked = questions(settings, [(CATALOGUE["yolov8m"], False), (YOLO, True)])
    assert [(each.url, each.is_required) for each in asked] == [
        ("http://127.0.0.1:1/a/yolov8s.pt", True),
        ("http://127.0.0.1:2/api/models/Salesforce/blip-vqa-base/revision/main", False),
    ]
    assert [each.model_id for each in questions(settings_of(on_demand="listed"), [(BLIP, False)])] == [
        "blip-vqa-base"
    ]


def test_hosts_that_answer_are_ok_and_their_answers_are_real() -> None:
    hub = FakeHub(BLIP.weights, {"config.json": b"{}"})
    with serving(ServedFile(b"PK")) as file, fake_hub.serving(hub):
        settings = settings_of(yolo_weights_url=file.url, hf_endpoint=hub.url)
        asked = questions(settings, [(YOLO, True), (BLIP, True)])
        answer = ask(*(each.url for each in asked))
    assert answer.failure == ""
    findings = check_network(settings, asked, answer, {})
    assert [each.status for each in findings] == ["ok", "ok"], findings
    assert file.url.removeprefix("http://") in findings[0].text


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(404, "does not have it"), (403, "HF_TOKEN"), (407, "HTTPS_PROXY"), (503, "try again")],
)
def test_a_host_that_refuses_is_a_problem_where_it_is_needed(status: int, remedy: str) -> None:
    with serving(ServedFile(b"", status=status)) as file:
        url = f"{file.url}/yolov8s.pt"
        answer = ask(url)
    (found,) = check_network(settings_of(), [Question(url, "yolov8s", True)], answer, {})
    assert found.status == "problem" and str(status) in found.text and remedy in found.remedy
    assert check_network(settings_of(), [Question(url, "yolov8s", False)], answer, {})[0].status == "warning"


def test_a_host_that_is_not_there_or_silent_is_told_without_secrets() -> None:
    gate = threading.Event()
    with serving(ServedFile(b"", gate=gate)) as file:
        answer = ask(URL, file.url)
        gate.set()
    refused, silent = check_network(settings_of(), [REQUIRED, Question(file.url, "x", False)], answer, {})
    assert refused.status == "problem" and "127.0.0.1:1 cannot be reached: ConnectError" in refused.text
    assert "secret" not in refused.text + refused.remedy
    assert silent.status == "warning" and "ReadTimeout" in silent.text


def test_a_probe_that_hangs_counts_as_no_answer() -> None:
    (found,) = check_network(
        settings_of(), [REQUIRED], Answer({}, "no answer within 20 s while starting", True), {}
    )
    assert found.status == "problem" and "no answer within 20 s" in found.text


def test_proxies_are_shown_without_secrets() -> None:
    answer = Answer({"answers": {URL: {"status": 200}}})
    found = check_network(
        settings_of(), [REQUIRED], answer, {"https_proxy": "http://u:secret@proxy:3128", "NO_PROXY": "a"}
    )[1]
    assert found.text == "https_proxy=http://***@proxy:3128, NO_PROXY=a"


def test_the_librarys_release_is_read_from_its_source(tmp_path: Path) -> None:
    from ultralytics.utils.downloads import attempt_download_asset

    defaults = inspect.signature(attempt_download_asset).parameters
    expected = (
        f"https://github.com/{defaults['repo'].default}/releases/download/{defaults['release'].default}"
    )
    assert release_address() == expected
    assert release_address(tmp_path).startswith("https://github.com/"), "a library that lacks the file"
