"""Conversations that strangers send: every one has its code, within a bounded time in which others are answered."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.hostile.target import SAMPLE, Target

SIZE = 27 << 20
PICTURE = base64.b64encode(SAMPLE.read_bytes()).decode()


def post(target: Target, body: bytes, content_type: str = "application/json") -> httpx.Response:
    return target.client.post("/v1/chat/completions", content=body, headers={"content-type": content_type})


def code_of(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and len(error["message"]) < 300
    return reply.status_code, error["code"]


def body_of(address: Any = f"data:image/jpeg;base64,{PICTURE}", **fields: Any) -> bytes:
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": address}}]
    return json.dumps(
        {"model": "shapes-vqa", "messages": [{"role": "user", "content": content}], **fields}
    ).encode()


@pytest.mark.parametrize(("body", "code"), [
    (b"", "empty_body"), (b"null", "invalid_request"), (b"[]", "invalid_request"), (b'{"a', "invalid_json"), (b'{"a":NaN}', "invalid_json"),
    (b"[" * 250_000, "invalid_json"), (b'{"messages":' * 250_000, "invalid_json"), (b'{"messages":' * 250 + b"1" + b"}" * 250, "invalid_json"),
    (b'{"model":"shapes-vqa"}', "invalid_parameter"), (b'{"messages":[]}', "invalid_parameter"), (b'{"\\ud800":1}', "invalid_json"),
    (body_of(evil=1), "unknown_field"), (body_of(__proto__={}), "unknown_field"), (body_of(**{"x" * 10_000: 1}), "unknown_field"),
    (body_of(model={"$ref": "x"}), "invalid_parameter"), (body_of(tools=[{}] * 10_000), "not_supported"),
    (body_of(stop=["x"] * 10_000), "not_supported"), (body_of(n=10**9), "not_supported"), (body_of(max_tokens=-1), "invalid_parameter"),
    (body_of(stream="yes"), "invalid_parameter"), (body_of(stream_options=[]), "invalid_parameter"),
    (body_of(model="shapes-detect"), "not_a_chat_model"),
])  # fmt: skip
def test_what_is_no_conversation_is_refused(target: Target, body: bytes, code: str) -> None:
    assert code_of(post(target, body)) == (400, code)


@pytest.mark.parametrize(("address", "code"), [
    ("data:", "invalid_image_url"), ("data:,x", "invalid_image_url"), ("data:text/html;base64,AAAA", "invalid_image_url"),
    ("data:image/svg+xml;base64,PHN2Zz4=", "invalid_image_url"),
    ("DaTa:image/png;base64,AAAA", "invalid_image_url"),
    ("data:image/png;charset=utf-8;base64,AAAA", "invalid_image_url"), ("", "invalid_image_url"), ("file:///x.jpg", "invalid_image_url"),
    ("javascript:alert(1)", "invalid_image_url"), ("http://127.0.0.1/x.jpg", "image_url_not_allowed"), ("http://[::1]/", "image_url_not_allowed"),
    ("http://169.254.169.254/latest/", "image_url_not_allowed"), ("https://" + "a" * 100_000, "invalid_image_url"),
    (None, "invalid_parameter"), ([], "invalid_parameter"), ({"url": "x"}, "invalid_parameter"),
])  # fmt: skip
def test_an_address_that_leads_to_no_image_is_refused_before_the_model_is_loaded(
    target: Target, address: Any, code: str
) -> None:
    assert code_of(post(target, body_of(address))) == (400, code)


def test_an_image_that_is_too_large_or_damaged_has_its_status(target: Target) -> None:
    assert code_of(post(target, b'"' + b" " * (30 << 20))) == (413, "body_too_large")
    assert code_of(post(target, body_of(), "text/plain")) == (415, "unsupported_media_type")
    assert code_of(post(target, body_of(), "application/json;" + "x" * 600)) == (
        415,
        "unsupported_media_type",
    )


def crowd(kind: str) -> bytes:
    """A body that is small or as large as one may be, and tedious."""
    turn = b'{"role":"user","content":"x"},'
    match kind:
        case "messages":
            return b'{"model":"shapes-vqa","messages":[' + turn * 10_000 + turn[:-1] + b"]}"
        case "wrong messages":
            return b'{"model":"shapes-vqa","messages":[' + b"1," * 30_000 + b"1]}"
        case "parts":
            return b'{"messages":[{"role":"user","content":[' + b"{}," * 30_000 + b"{}]}]}"
        case "unknown fields":
            inside = b",".join(b'"k%d":0' % number for number in range(30_000))
            return b'{"messages":[{"role":"user","content":[{' + inside + b"}]}]}"
        case "nested":
            one = b"[" * 150 + b"]" * 150
            return b'{"metadata":[' + one + (b"," + one) * (SIZE // 301) + b"]}"
        case "lists":
            return b'{"messages":[' + b"[]," * (SIZE // 3) + b"1]}"
        case "long lists":  # each as long as an image
            one = (b"[" * 150 + b" " * 1_000_000 + b"]" * 150 + b",") * 26
            return b'{"model":"shapes-vqa","messages":[' + one + b"1]}"
        case "escapes":
            return body_of("data:X").replace(b"X", b"\\ud83d\\ude00" * (SIZE // 12))
    raise ValueError(kind)


@pytest.mark.parametrize(("kind", "code"), [
    ("messages", "invalid_parameter"), ("wrong messages", "invalid_parameter"), ("parts", "invalid_parameter"),
    ("unknown fields", "invalid_parameter"), ("nested", "invalid_request"), ("lists", "invalid_request"),
    ("long lists", "invalid_request"), ("escapes", "invalid_image_url"),
])  # fmt: skip
def test_a_crowded_conversation_holds_nobody_up(target: Target, kind: str, code: str) -> None:
    body = crowd(kind)
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
    assert code_of(reply)[1] == code
    print(f"{kind}: {len(body)} bytes, others waited at most {1000 * max(waits):.0f} ms")
    assert max(waits) < 2.0, "the loop was held"
