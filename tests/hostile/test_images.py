"""Every picture of the catalogue through the whole server; before and after each it serves as ever."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.pictures import CASES, STATUS, jpeg
from tests.hostile.target import SAMPLE, Target
from tests.server.images import encode, scene

PATIENCE = 15.0
"""Seconds for any of them, on a machine that does other things too. Alone the slowest takes less than one."""
FORMS = [name for number, name in enumerate(CASES) if number % 8 == 0]


def assert_answered(target: Target, name: str, way: str) -> None:
    """`CASES[name]` in this way has one of its codes, in time."""
    encoded = CASES[name].make()
    started = time.monotonic()
    if way == "body":
        reply = target.infer(encoded)
    elif way == "json":
        body = {"model_id": "shapes-detect", "image_base64": base64.b64encode(encoded).decode()}
        reply = target.client.post("/inference", json=body)
    else:
        reply = target.client.post(
            "/inference", data={"model_id": "shapes-detect"}, files={"image": ("a.png", encoded)}
        )
    assert time.monotonic() - started < PATIENCE
    code = "ok" if reply.status_code == 200 else reply.json()["error"]["code"]
    assert code in CASES[name].codes, reply.text
    assert reply.status_code == STATUS[code]


@pytest.mark.parametrize("name", CASES)
def test_a_picture_as_the_body_is_answered_as_the_catalogue_says(target: Target, name: str) -> None:
    assert_answered(target, name, "body")


@pytest.mark.parametrize("way", ["json", "form"])
@pytest.mark.parametrize("name", FORMS)
def test_it_is_the_same_in_json_and_in_a_form(target: Target, name: str, way: str) -> None:
    assert_answered(target, name, way)


def test_no_bytes_are_no_picture(target: Target) -> None:
    reply = target.infer(b"")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "empty_body")


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/jpeg", "image/x-anything", "IMAGE/WEBP; charset=utf-8"]
)
def test_bytes_and_not_names_decide_what_a_picture_is(target: Target, content_type: str) -> None:
    assert target.infer(SAMPLE.read_bytes(), content_type).status_code == 200


_SAMPLE_BASE64 = base64.b64encode(encode(scene())).decode()


@pytest.mark.parametrize(("text", "status", "code"), [
    ("", 400, "empty_body"), ("=", 400, "invalid_base64"), ("A", 400, "invalid_base64"), ("AAA", 400, "invalid_base64"),
    ("A===", 400, "invalid_base64"), ("AAAA====", 400, "invalid_base64"),
    (_SAMPLE_BASE64[:40] + "\n" + _SAMPLE_BASE64[40:], 400, "invalid_base64"), (_SAMPLE_BASE64 + " ", 400, "invalid_base64"),
    ("-_-_", 400, "invalid_base64"), (_SAMPLE_BASE64 + "=AAAA", 400, "invalid_base64"), ("b'AAAA'", 400, "invalid_base64"),
    ("AAAA", 422, "image_undecodable"), ("A" * (26 * 2**20), 422, "image_undecodable"),
    ([1, 2, 3], 400, "invalid_parameter"), (7, 400, "invalid_parameter"), (None, 400, None),
    ("data:image/png;base64," + _SAMPLE_BASE64, 200, None), ("data:image/webp;base64," + _SAMPLE_BASE64, 200, None),
    ("data:text/html;base64," + _SAMPLE_BASE64, 400, "invalid_base64"), ("data:image/png," + _SAMPLE_BASE64, 400, "invalid_base64"),
    ("DATA:image/png;base64," + _SAMPLE_BASE64, 400, "invalid_base64"), (" data:image/png;base64," + _SAMPLE_BASE64, 400, "invalid_base64"),
    ("data:image/png;base64,", 400, "empty_body"), ("data:image/svg+xml;base64," + _SAMPLE_BASE64, 400, "invalid_base64"),
])  # fmt: skip
def test_base64_is_strict_and_may_have_the_prefix_of_a_data_url(
    target: Target, text: object, status: int, code: str | None
) -> None:
    reply = target.client.post("/inference", json={"model_id": "shapes-detect", "image_base64": text})
    assert reply.status_code == status, reply.text
    assert code is None or reply.json()["error"]["code"] == code


def test_the_same_pictures_many_times_at_once_have_one_answer_each(target: Target) -> None:
    pictures = [SAMPLE.read_bytes(), jpeg()]
    expected = [target.infer(picture).json()["predictions"] for picture in pictures]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(8) as clients:
        replies = list(clients.map(lambda number: target.infer(pictures[number % 2]), range(60)))
    assert [reply.json()["predictions"] for reply in replies] == expected * 30
