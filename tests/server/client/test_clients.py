"""Both clients against a server that answers what it is told: what is sent, what is tried again, what is raised."""

from __future__ import annotations

import io
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from server.client import (
    BusyError,
    Client,
    InferenceError,
    RejectedError,
    ServerFailedError,
    UnreachableError,
)
from tests.server.client.conftest import MakeClient
from tests.server.client.origin import REPLY, Answer, Origin, refusal

JPEG = b"\xff\xd8 not really"


def query(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query)


def test_bytes_a_path_a_file_and_an_image_of_pillow_are_sent_as_the_body(
    make_client: MakeClient, origin: Origin, tmp_path: Path
) -> None:
    client = make_client(origin.url, "the-key")
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    picture = Image.new("CMYK", (3, 2), (0, 0, 0, 0))
    with path.open("rb") as file:
        for image in (JPEG, bytearray(JPEG), path, str(path), file, picture):
            reply = client.infer(image, "yolo", confidence=0.5, classes=[0, 2], iou=None)
            assert reply.predictions[0].box.y2 == 3
    *same, last = origin.asked
    assert {asked.body for asked in same} == {JPEG}
    assert {asked.headers["content-type"] for asked in same} == {"image/jpeg"}
    assert {asked.headers["authorization"] for asked in same} == {"Bearer the-key"}
    assert query(last.path) == {"model_id": ["yolo"], "confidence": ["0.5"], "classes": ["0,2"]}
    sent = Image.open(io.BytesIO(last.body))
    assert (sent.format, sent.size, sent.getpixel((0, 0))) == ("PNG", (3, 2), (255, 255, 255))


def test_an_address_goes_as_json(make_client: MakeClient, origin: Origin) -> None:
    make_client(origin.url).ask("https://images.example/a.jpg", ["one?", "two?"], "vqa", num_beams=2)
    assert json.loads(origin.asked[0].body) == {
        "model_id": "vqa", "image_url": "https://images.example/a.jpg", "prompts": ["one?", "two?"],
        "parameters": {"num_beams": 2},
    }  # fmt: skip


def test_long_options_go_in_a_form(make_client: MakeClient, origin: Origin) -> None:
    make_client(origin.url).ask(JPEG, ["é" * 500, "two?"], "vqa")
    asked = origin.asked[0]
    assert asked.path == "/inference" and asked.headers["content-type"].startswith("multipart/form-data")
    assert (
        asked.body.count(b'name="prompts"') == 2 and JPEG in asked.body and "é".encode() * 500 in asked.body
    )


@pytest.mark.parametrize("image", [5, io.StringIO("text"), [1, 2]])
def test_what_is_no_image_is_refused_before_anything_is_sent(
    make_client: MakeClient, origin: Origin, image: Any
) -> None:
    with pytest.raises(TypeError):
        make_client(origin.url).infer(image)
    with pytest.raises(FileNotFoundError):
        make_client(origin.url).infer("no/such.jpg")
    assert origin.asked == []


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_that_passes_is_tried_again_after_what_the_server_names(
    make_client: MakeClient, origin: Origin, status: int
) -> None:
    busy = refusal(status, "queue_full", retry_after="0.3")
    origin.answers = [busy, busy, Answer()]
    started = time.monotonic()
    assert make_client(origin.url).infer(JPEG).model_id == "m"
    assert len(origin.asked) == 3 and {asked.body for asked in origin.asked} == {JPEG}
    assert 0.6 <= time.monotonic() - started < 5


def test_a_broken_connection_is_tried_again(make_client: MakeClient, origin: Origin) -> None:
    origin.answers = [Answer(0), Answer(0), Answer()]
    assert make_client(origin.url).infer(JPEG).model_id == "m"
    assert len(origin.asked) == 3


def test_a_reload_is_not_repeated_when_nobody_knows_what_became_of_it(
    make_client: MakeClient, origin: Origin
) -> None:
    origin.answers = [Answer(0)]
    with pytest.raises(UnreachableError):
        make_client(origin.url).reload("m")
    assert [(asked.method, asked.path) for asked in origin.asked] == [("POST", "/models/m/reload")]


def test_a_server_that_comes_up_late_is_waited_for_and_one_that_never_does_is_an_error(
    make_client: MakeClient,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    started = time.monotonic()
    client = make_client(url, timeout=0.8)
    with pytest.raises(UnreachableError) as raised:
        client.infer(JPEG)
    assert raised.value.code == "unreachable" and 0.2 < time.monotonic() - started < 5
    assert (client.ready(), client.live()) == (False, False)


def test_nothing_is_waited_for_beyond_the_time_that_a_call_has(
    make_client: MakeClient, origin: Origin
) -> None:
    origin.answers = [refusal(503, "model_loading", retry_after="60")]
    started = time.monotonic()
    with pytest.raises(BusyError) as raised:
        make_client(origin.url, timeout=30).infer(JPEG)
    assert time.monotonic() - started < 5 and len(origin.asked) == 1
    error = raised.value
    assert (error.code, error.status, error.retry_after, error.request_id) == ("model_loading", 503, 60, "r1")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(400, "invalid_parameter"), RejectedError),
        (refusal(401, "unauthorized"), RejectedError),
        (refusal(422, "image_undecodable"), RejectedError),
        (refusal(500, "internal"), ServerFailedError),
        (refusal(504, "deadline_exceeded"), ServerFailedError),
        (refusal(503, "weights_invalid", retry_after="0"), BusyError),
        (Answer(502, b"<html>"), ServerFailedError),
        (Answer(200, b"<html>"), ServerFailedError),
        (Answer(302, b"", {"location": "http://127.0.0.1:9/"}), ServerFailedError),
    ],
)
def test_what_stays_as_it_is_is_raised_at_once(
    make_client: MakeClient, origin: Origin, answer: Answer, kind: type[InferenceError]
) -> None:
    origin.answers = [answer]
    with pytest.raises(kind) as raised:
        make_client(origin.url).infer(JPEG)
    is_ours = not isinstance(answer.body, bytes)
    assert raised.value.code == (answer.body["error"]["code"] if is_ours else "unexpected_reply")
    assert len(origin.asked) == 1


def test_a_picture_comes_back_as_bytes_and_anything_else_is_an_error(
    make_client: MakeClient, origin: Origin
) -> None:
    origin.answers = [Answer(200, JPEG, {"content-type": "image/jpeg"}), Answer(200, REPLY)]
    client = make_client(origin.url)
    assert client.picture(JPEG, "m", confidence=0.1) == JPEG
    assert origin.asked[0].headers["accept"] == "image/jpeg"
    with pytest.raises(ServerFailedError):
        client.picture(JPEG, "m")


def test_proxies_count_for_other_machines_only(monkeypatch: pytest.MonkeyPatch, origin: Origin) -> None:
    monkeypatch.setenv("HTTP_PROXY", origin.url)
    with Client("http://engine.example:5000") as client:
        client.infer(JPEG)
    assert origin.asked[0].path.startswith("http://engine.example:5000/inference")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(origin.url) as client:
        client.infer(JPEG)


@pytest.mark.parametrize("url", ["", "127.0.0.1:5000", "ftp://a/", "http://", "http://a:x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Client(url)
