"""The page `/docs` in a real browser: it shows the operations, asks this server, and nobody else."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from server.docs import FILES, FOLDER, PAGE_HEADERS
from tests.serving import RunningServer, running_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(environment={"ENGINE_LOAD_AT_START": ""}, wait=False) as server:
        yield server


def get(server: RunningServer, path: str, **headers: str) -> httpx.Response:
    return httpx.get(server.url + path, headers=headers, trust_env=False, verify=False, timeout=30)


def test_the_vendored_files_are_those_that_are_named() -> None:
    table = re.findall(r"\| `(.+)` \| (\d+) \| `(.+)` \|", (FOLDER / "README.md").read_text())
    assert len(table) == 2
    for name, size, digest in table:
        content = gzip.decompress((FOLDER / f"{name}.gz").read_bytes())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(size), digest)


def test_files_are_sent_compressed_plain_or_not_at_all(server: RunningServer) -> None:
    for name, media_type in FILES.items():
        packed = get(server, f"/docs/{name}", **{"accept-encoding": "gzip"})
        assert (packed.status_code, packed.headers["content-type"]) == (200, media_type)
        assert packed.headers["content-encoding"] == "gzip"
        plain = get(server, f"/docs/{name}", **{"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == packed.content
        known = get(server, f"/docs/{name}", **{"if-none-match": packed.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")


def test_the_page_may_run_and_ask_only_what_is_this_servers(server: RunningServer) -> None:
    page = get(server, "/docs")
    policy = page.headers["content-security-policy"]
    assert (
        policy == PAGE_HEADERS["content-security-policy"] and "unsafe" not in policy and "http" not in policy
    )
    assert re.findall(r"<script(?! src=\"docs/)", page.text) == [] and "//" not in page.text


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_is_for_trying_and_stays_on_this_host(server: RunningServer) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="there is no playwright here")
    messages: list[str] = []
    asked: list[Any] = []
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request))
        page.goto(server.url + "/docs")
        page.wait_for_selector(".opblock")
        shown = page.locator(".opblock-summary-path").all_inner_texts()
        described = get(server, "/openapi.json").json()["paths"]
        assert {path.replace("\u200b", "") for path in shown} == set(described)
        block = page.locator("#operations-default-get_livez")
        block.locator(".opblock-summary-control").click()
        block.locator("button.try-out__btn").click()
        with page.expect_response(lambda response: response.url == server.url + "/livez") as answered:
            block.locator("button.execute").click()
        assert answered.value.status == 200
        block.locator(".live-responses-table .response-col_status", has_text="200").first.wait_for()
        browser.close()
    assert [text for text in messages if text.startswith("error")] == []
    remote = [
        r.url
        for r in asked
        if urlsplit(r.url).scheme in ("http", "https") and not r.url.startswith(server.url + "/")
    ]
    assert remote == []
