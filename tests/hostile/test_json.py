"""JSON that strangers send: every body has its code, within a bounded time in which others are answered."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.hostile.patience import patience
from tests.hostile.target import SAMPLE, Target

PICTURE = base64.b64encode(SAMPLE.read_bytes()).decode()
MIB = 1 << 20
SIZE = 27 * MIB
"""Of a body that is as large as one may be."""


def post(target: Target, body: bytes) -> httpx.Response:
    return target.client.post("/inference", content=body, headers={"content-type": "application/json"})


def code_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model_id": "shapes-detect", "image_base64": PICTURE, **fields}).encode()


@pytest.mark.parametrize(("body", "code"), [
    (b"", "empty_body"), (b"null", "invalid_request"), (b"[]", "invalid_request"), (b'"x"', "invalid_request"), (b"1", "invalid_request"),
    (b'{"a":1,}', "invalid_json"), (b'{"a":1}x', "invalid_json"), (b'{"a', "invalid_json"), (b"\xef\xbb\xbf{}", "invalid_json"),
    ('{"a":1}'.encode("utf-16"), "invalid_json"), (b'{"a":"\xe9"}', "invalid_json"), (b'{"a":"\x00"}', "invalid_json"),
    (b'{"a":NaN}', "invalid_json"), (b'{"a":1e999}', "unknown_field"), (b'{"a":-}', "invalid_json"), (b'{"\\ud800":1}', "invalid_json"),
    (b"[" * 1025 + b"]" * 1025, "invalid_json"), (b"[" * 250_000, "invalid_json"), (b"[" * 250_000 + b"]" * 250_000, "invalid_json"),
    (b'{"parameters":' * 250_000 + b"1" + b"}" * 250_000, "invalid_json"), (b"\xff\xd8\xff\xe0", "invalid_json"),
])  # fmt: skip
def test_what_is_no_json_object_of_ours_is_refused(target: Target, body: bytes, code: str) -> None:
    assert code_of(post(target, body)) == (400, code)


@pytest.mark.parametrize(("fields", "code", "named"), [
    ({"image_url": "http://example.com/"}, "exactly_one_image_source", ""), ({"image_base64": None}, "exactly_one_image_source", ""),
    ({"model_id": 1}, "invalid_parameter", "model_id"), ({"model_id": None}, "invalid_parameter", "model_id"),
    ({"image_base64": [255, 216]}, "invalid_parameter", "image_base64"), ({"image_base64": "b'/9j/'"}, "invalid_base64", ""),
    ({"image_base64": {}}, "invalid_parameter", "image_base64"), ({"image_base64": True}, "invalid_parameter", "image_base64"),
    ({"parameters": {"confidence": "0.5"}}, "invalid_parameter", "confidence"), ({"parameters": {"confidence": True}}, "invalid_parameter", "confidence"),
    *(({"parameters": {"confidence": value}}, "invalid_parameter", "confidence") for value in (-1, 2, 1e308, -5e-324, 10**30, None, [], {})),
    *(({"parameters": {"max_detections": value}}, "invalid_parameter", "max_detections") for value in (0, -1, 2**31, 2**63, 10**30, 1.5, "7")),
    ({"parameters": {"classes": [10**30]}}, "invalid_parameter", "classes"), ({"parameters": {"classes": [77]}}, "invalid_parameter", "classes"),
    ({"parameters": {"num_beams": 2}}, "invalid_parameter", "num_beams"), ({"parameters": {"n": 10**9}}, "unknown_field", "n"),
    ({"question": "?"}, "unknown_field", "question"), ({"images": ["http://example.com/"] * 10_000}, "unknown_field", "images"),
    ({"__proto__": {}}, "unknown_field", "__proto__"), ({"{subject}": 1}, "unknown_field", "{subject}"), ({"x" * 10_000: 1}, "unknown_field", "x" * 128),
    ({"prompt": "what?"}, "invalid_parameter", "prompt"), ({"prompt": "\x00"}, "invalid_parameter", "prompt"), ({"prompt": "x" * MIB}, "invalid_parameter", "prompt"),
    ({"prompts": ["a"] * 33}, "invalid_parameter", "prompts"), ({"prompts": []}, "invalid_parameter", "prompts"),
])  # fmt: skip
def test_a_wrong_field_has_a_code_and_a_name(
    target: Target, fields: dict[str, Any], code: str, named: str
) -> None:
    reply = post(target, body_of(**fields))
    assert code_of(reply) == (400, code)
    message = reply.json()["error"]["message"]
    assert named in message and len(message) < 300


@pytest.mark.parametrize(("number", "code"), [
    ("1e999", "invalid_parameter"), ("-1e999", "invalid_parameter"), ("1" * 5000, "invalid_json"), ("0." + "1" * 5000, ""),
    ("1e-999999999", ""), ("5e-324", ""), ("-0.0", ""), ("1" + "0" * 30, "invalid_parameter"), ("Infinity", "invalid_json"), ("0x1", "invalid_json"),
])  # fmt: skip
def test_numbers_beyond_any_machine_are_in_or_out_of_bounds(target: Target, number: str, code: str) -> None:
    body = body_of(parameters={"confidence": 0.5}).replace(b"0.5", number.encode())
    reply = post(target, body)
    assert (reply.status_code == 200) if not code else code_of(reply) == (400, code)


def large(kind: str) -> bytes:
    start = b'{"model_id":"shapes-detect","image_base64":"'
    match kind:
        case "lists":
            return b'{"parameters":{"classes":[' + b"[]," * (SIZE // 3) + b"1]}}"
        case "keys":
            return b"{" + b",".join(b'"k%d":0' % number for number in range(1_000_000)) + b"}"
        case "numbers":
            return b'{"parameters":{"classes":[' + b"1," * 1_000_000 + b"1]}}"
        case "long numbers":
            return b'{"parameters":{"classes":[' + (b"9" * 4000 + b",") * (SIZE // 4001) + b"1]}}"
        case "escapes":
            return start + b"\\ud83d\\ude00" * (SIZE // 12) + b'"}'
        case "text":
            return start + b"A" * SIZE + b'"}'
    raise ValueError(kind)


@pytest.mark.parametrize(("kind", "status", "code"), [
    ("lists", 400, "invalid_request"), ("keys", 400, "invalid_request"), ("numbers", 400, "invalid_request"),
    ("long numbers", 400, "invalid_request"), ("escapes", 400, "invalid_base64"), ("text", 413, "body_too_large"),
])  # fmt: skip
def test_a_body_of_many_megabytes_holds_nobody_up(target: Target, kind: str, status: int, code: str) -> None:
    body = large(kind)
    waits: list[float] = []
    has_begun, is_over = threading.Event(), threading.Event()

    def look() -> None:
        with httpx.Client(base_url=target.url, trust_env=False, timeout=30.0) as client:
            while not is_over.is_set():
                started = time.monotonic()
                assert client.get("/livez").status_code == 200
                waits.append(time.monotonic() - started)
                has_begun.set()

    bystander = threading.Thread(target=look)
    bystander.start()
    assert has_begun.wait(30.0)
    try:
        reply = post(target, body)
    finally:
        is_over.set()
        bystander.join()
    assert code_of(reply) == (status, code)
    print(
        f"{kind}: {len(body)} bytes, others waited at most {1000 * max(waits):.0f} ms of {len(waits)} requests"
    )
    assert max(waits) < patience(len(body)), "the loop was held"


def test_a_body_over_its_limit_is_refused_unread(target: Target) -> None:
    reply = post(target, b'"' + b" " * (30 * MIB))
    assert code_of(reply) == (413, "body_too_large")
