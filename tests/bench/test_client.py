"""The raw client's reading of replies."""

from __future__ import annotations

import pytest

from bench.client import build_form, read_chunks

CHUNKED = b"5\r\nhello\r\n1;name=value\r\n!\r\n0\r\n\r\n"


def test_a_body_in_chunks_is_read_whole() -> None:
    assert read_chunks(b"head" + CHUNKED + b"next", 4) == (b"hello!", 4 + len(CHUNKED))


@pytest.mark.parametrize("length", range(len(CHUNKED)))
def test_a_body_in_chunks_that_is_not_whole_yet_is_waited_for(length: int) -> None:
    assert read_chunks(CHUNKED[:length], 0) is None


def test_a_form_says_how_long_it_is() -> None:
    head, _, body = build_form("host", "/predict", "image", b"\xff\xd8picture").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'name="image"' in body
    assert b"\xff\xd8picture" in body
