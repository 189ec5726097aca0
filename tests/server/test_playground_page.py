"""The files of the page at `/`: what is sent, to whom, and that nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.palette import COLOURS
from server.playground_page import FILES
from tests.server.in_process import client_of, make_app
from tests.server.keys import write_keys

FOLDER = Path(__file__).parents[2] / "server" / "playground"


async def test_every_file_is_open_typed_and_held_by_a_strict_policy(tmp_path: Path) -> None:
    async with client_of(make_app(keys_file=write_keys(tmp_path))) as client:
        for address, path in FILES.items():
            answer = await client.get(address)
            assert (answer.status_code, answer.content) == (200, path.read_bytes())
            policy = answer.headers["content-security-policy"]
            assert (
                "default-src 'none'" in policy
                and "frame-ancestors 'none'" in policy
                and "unsafe" not in policy
            )
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["permissions-policy"].startswith("camera=(self)")
        assert (await client.get("/models")).status_code == (await client.get("/events")).status_code == 401


async def test_a_copy_that_is_still_right_is_not_sent_again() -> None:
    async with client_of(make_app()) as client:
        tag = (await client.get("/")).headers["etag"]
        for known in (tag, f'"x", W/{tag}'):
            answer = await client.get("/", headers={"if-none-match": known})
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert (await client.get("/", headers={"if-none-match": '"x"'})).status_code == 200


async def test_it_can_be_switched_off() -> None:
    async with client_of(make_app(playground=False)) as client:
        assert {(await client.get(address)).status_code for address in FILES} == {404}
        assert "/" not in (await client.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize(
    "path",
    ["/playground/../app.js", "/playground/%2e%2e/app.py", "/playground/index.html", "/playground/app.js/"],
)
async def test_no_other_file_can_be_named(path: str) -> None:
    async with client_of(make_app()) as client:
        assert (await client.get(path)).status_code == 404


def test_every_file_is_listed_and_needs_no_other_host_and_no_inline_code() -> None:
    assert {path.name for path in FOLDER.iterdir()} <= {path.name for path in FILES.values()}
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"\son\w+=|style=|<style|<script(?![^>]* src=)", page)
    for target in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert not target.startswith(("/", "http")), "relative, so that a proxy may put the page below a path"
        assert f"/{target}" in FILES or target == "docs"
    for path in FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://\w|innerHTML|insertAdjacent|document\.write|eval\(", text), path.name


def test_the_page_and_the_server_draw_a_class_in_one_colour() -> None:
    (listed,) = re.findall(r"const COLOURS = \[(.*)\];", (FOLDER / "drawing.js").read_text())
    assert re.findall(r'"(#\w+)"', listed) == [
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in COLOURS
    ]
