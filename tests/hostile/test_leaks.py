"""The search for the server's inside finds it, and finds nothing in what is meant to be said."""

from __future__ import annotations

import sys
from http import HTTPStatus

import pytest

from server.errors import KINDS, RequestFailedError
from tests.hostile.leaks import CANARY, leaks_in
from tests.hostile.target import Target


@pytest.mark.parametrize("reply", [
    "cannot open /home/user/weights.pt", "/usr/lib/x", "/tmp/a", f"{sys.prefix}/bin", "site-packages", "Traceback (most recent", 'File "x"', "line 7, in f",
    "ValueError: x", "<class 'int'>", "<server.app.App object", "at 0x7f1234567890", "connect to 10.0.0.7", "uvicorn", "Python/3.11", "libpng error",
    f"PASSWORD={CANARY}", "pool.py:33",
])  # fmt: skip
def test_what_is_inside_is_found(reply: str) -> None:
    assert leaks_in(f'{{"error": "{reply}"}}')
    assert leaks_in(reply, sent=reply) == [], "the client's own words are none"


def test_no_message_says_anything_of_the_inside() -> None:
    for code, kind in KINDS.items():
        assert isinstance(kind.status, HTTPStatus)
        assert leaks_in(RequestFailedError(code, "subject").message) == []


@pytest.mark.parametrize(
    "path",
    [
        "/models",
        "/models/shapes-detect",
        "/healthz",
        "/readyz",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/docs",
    ],
)
def test_what_anybody_may_read_says_nothing_of_the_inside(target: Target, path: str) -> None:
    """The client's hook searches the reply."""
    assert target.client.get(path).status_code == 200
