"""What no reply may contain: the inside of the server, read from the outside by regular expressions."""

from __future__ import annotations

import gzip
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

from server.docs import FOLDER

VENDORED = frozenset(gzip.decompress(path.read_bytes()) for path in FOLDER.glob("*.gz"))
CANARY = "canary-5d0c6f1e9b"
"""In the environment of the server that is attacked; in a reply it would be somebody's password."""
PLACES = (str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix)
LEAST_SECRET = 16
"""Characters: shorter values of this process's environment are words that stand in replies by chance."""

INSIDE: Mapping[str, re.Pattern[str]] = {
    "a path": re.compile(
        r"(?<![\w.:/])/(?:home|usr|tmp|root|opt|var|etc|proc|dev|sys|srv|mnt|run|lib|app)/[\w.-]+"
    ),
    "a place in code": re.compile(r"site-packages|dist-packages|\w+\.(?:py|pyc|so|pyx|cpp|cc)\b|\.py:\d+"),
    "a traceback": re.compile(r"Traceback|File \\?\"|line \d+, in "),
    "a class": re.compile(r"\b[A-Z]\w+(?:Error|Exception|Warning)\b|<class '|<\w+(?:\.\w+)* object"),
    "an address in memory": re.compile(r"\b0x[0-9a-fA-F]{5,}"),
    "an address in the network": re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"),
    "a library": re.compile(
        r"\b(?:uvicorn|uvloop|starlette|pydantic|jiter|orjson|pillow|PIL|simplejpeg|libjpeg|libpng|opencv|cv2|numpy|"
        r"ultralytics|transformers|httptools|llhttp|httpcore|httpx|h11|asyncio|cpython|python/?\d|errno)\b",
        re.IGNORECASE,
    ),
}
"""Names of runtimes (torch, openvino) are not here: `GET /models` says which one runs, on purpose."""


_BUILD = re.compile(r"^engine_build_info.*$", re.MULTILINE)
"""Versions, for operators: `/metrics` needs a key where there are any."""


def leaks_in(reply: str, sent: str = "") -> list[str]:
    """What of the server's inside stands in `reply`; what the client itself `sent` is none."""
    reply = _BUILD.sub("", reply)
    found = [
        f"{kind}: {match.group()}"
        for kind, pattern in INSIDE.items()
        for match in pattern.finditer(reply)
        if match.group() not in sent
    ]
    secrets = {CANARY, socket.getfqdn(), *PLACES, *(v for v in os.environ.values() if len(v) >= LEAST_SECRET)}
    return found + [
        f"of the environment: {secret}"
        for secret in secrets
        if len(secret) >= 6 and secret != "localhost" and secret in reply and secret not in sent
    ]


def assert_no_leak(head: str, body: bytes, sent: str) -> None:
    """For every reply that a test sees. The page's own script is the same for all, and checked by its sha256."""
    if body in VENDORED:
        body = b""
    reply = f"{head}\n{body.decode('utf-8', 'backslashreplace')}"
    leaks = leaks_in(reply, sent)
    assert not leaks, (leaks, reply[:2000])


def check_response(response: httpx.Response) -> None:
    """An event hook for a client of httpx."""
    response.read()
    request = response.request
    try:
        content = request.content
    except httpx.RequestNotRead:  # a body that was made while it was sent
        content = b""
    sent = "\n".join([str(request.url), *(f"{k}: {v}" for k, v in request.headers.items())])
    head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
    assert_no_leak(head, response.content, f"{sent}\n{content.decode('utf-8', 'backslashreplace')}")
