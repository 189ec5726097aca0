"""Headers that strangers send beside a request that is fine, or none."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.hostile.raw import exchange
from tests.hostile.target import SAMPLE, Target

PICTURE = SAMPLE.read_bytes()
HEX = re.compile("[0-9a-f]{32}")


def raw(target: Target, *headers: bytes, body: bytes = b"", line: bytes = b"GET /livez HTTP/1.1") -> bytes:
    lines = [line, b"Host: x", b"Connection: close", *headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "value",
    [b"a\tb", b"\x1b[31m", b"x" * 4096, "é\u202e".encode(), b'"', b"a b", b"", b"../x", b"a;b", b"x" * 65],
)
def test_a_request_id_that_is_no_plain_word_is_replaced(target: Target, value: bytes) -> None:
    reply = exchange(target.address, raw(target, b"X-Request-Id: " + value))
    assert reply.status in (200, 400)  # a parser may refuse the sign itself
    assert reply.status == 400 or HEX.fullmatch(reply.headers["x-request-id"])


def test_a_header_cannot_be_put_into_a_reply(target: Target) -> None:
    for value in (b"a\r\nX-Evil: 1", b"a\nX-Evil: 1", b"a\rX-Evil: 1", b"a%0d%0aX-Evil: 1"):
        reply = exchange(target.address, raw(target, b"X-Request-Id: " + value))
        assert "x-evil" not in reply.headers
    reply = exchange(target.address, raw(target, line=b"GET /x%0d%0aX-Evil:1 HTTP/1.1"))
    assert reply.status == 404 and "x-evil" not in reply.headers


@pytest.mark.parametrize("headers", [
    {"range": "bytes=0-1"}, {"if-none-match": "*"}, {"if-modified-since": "x"}, {"accept": "text/html"}, {"accept": "x" * 5000}, {"accept-encoding": "gzip, br"},
    {"accept-language": "x" * 3000}, {"cookie": "a=b;" * 500}, {"te": "trailers"}, {"x-http-method-override": "DELETE"}, {"x-original-url": "/metrics"},
    {"x-rewrite-url": "/models"}, {"forwarded": "for=127.0.0.1"}, {"x-forwarded-for": "127.0.0.1"}, {"x-forwarded-host": "evil.example"}, {"host": "evil.example"},
])  # fmt: skip
def test_what_is_not_asked_for_is_not_done(target: Target, headers: dict[str, str]) -> None:
    reply = target.client.get("/livez", headers=headers)
    assert (reply.status_code, reply.json(), reply.headers["content-type"]) == (
        200,
        {"status": "live"},
        "application/json",
    )
    assert "evil" not in str(reply.headers)
    assert not {
        "content-range",
        "content-encoding",
        "etag",
        "set-cookie",
        "location",
        "access-control-allow-origin",
    } & set(reply.headers)


@pytest.mark.parametrize("content_type", [
    None, "", "text/plain", "text/plain; charset=utf-16", "application/octet-stream", "application/x-www-form-urlencoded", "application/jsonx",
    "image", "é/é", "application/json" + "x" * 5000, "multipart/mixed; boundary=x", "application/json; " + "a=b;" * 1000, "image/png; x=" + "y" * 5000,
    "multipart/form-data" + ";" * 5000 + "boundary=x",
])  # fmt: skip
def test_a_content_type_that_is_not_taken_is_refused(target: Target, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type.encode()}
    reply = target.client.post("/inference?model_id=shapes-detect", content=PICTURE, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(("content_type", "body", "status", "code"), [
    ("application/json", PICTURE, 400, "invalid_json"), ("application/json; charset=utf-16", PICTURE, 400, "invalid_json"),
    ("image/jpeg", b'{"model_id":"shapes-detect"}', 422, "image_undecodable"), ("image/svg+xml", b"<svg/>", 415, "unsupported_image_format"),
    ("multipart/form-data", PICTURE, 400, "invalid_multipart"), ("image/jpeg", b"", 400, "empty_body"), ("application/json", b"", 400, "empty_body"),
])  # fmt: skip
def test_a_body_that_is_not_what_it_says_is_refused(
    target: Target, content_type: str, body: bytes, status: int, code: str
) -> None:
    query = "" if content_type.startswith("application") else "?model_id=shapes-detect"
    reply = target.client.post(f"/inference{query}", content=body, headers={"content-type": content_type})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "x", "gzip, identity", "identity, gzip"])
def test_a_compressed_body_is_never_inflated(target: Target, coding: str) -> None:
    headers = {"content-type": "image/jpeg", "content-encoding": coding}
    reply = target.client.post("/inference?model_id=shapes-detect", content=PICTURE, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize(
    "path", ["/livez", "/models", "/", "/docs", "/openapi.json", "/metrics", "/nope", "/models/nope"]
)
def test_no_reply_is_taken_for_what_it_is_not(target: Target, path: str) -> None:
    reply = target.client.get(path)
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers and "x-powered-by" not in reply.headers
    is_page = reply.headers["content-type"].startswith("text/html")
    assert is_page == (path in ("/", "/docs"))
    if is_page:
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "script-src 'self';" in policy and "unsafe" not in policy and "http" not in policy


def test_a_reply_says_the_clients_words_only_as_json(target: Target) -> None:
    """A name of a field is said again in the message, at 128 signs and in JSON's quotes."""
    name = "<script>alert(1)</script>\u202e\x1b[31m" + "x" * 200
    reply: httpx.Response = target.infer(PICTURE, **{name: "1"})
    assert (reply.status_code, reply.headers["content-type"]) == (400, "application/json")
    assert (
        reply.json()["error"]["code"] == "unknown_field"
        and "x" * 128 not in reply.text
        and "\x1b" not in reply.text
    )
