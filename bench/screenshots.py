"""``python -m bench.screenshots``: pictures of the page at `/` for README.md, from a real server in a real browser.

Nothing is measured. Each of deploy/screenshots/*.webp is at most 150 kB.
"""

from __future__ import annotations

import argparse
import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from bench.browser import headless_browser
from bench.serving import start_process

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "screenshots"
SAMPLES = ROOT / "models" / "demo" / "samples"
MAX_BYTES = 150_000
QUALITIES = (90, 85, 80, 74, 68, 60, 50)
QUESTIONS = "how many shapes are there?\nwhat colour is the triangle?\nis there a star in the picture?"
_ENVIRONMENT = {
    "ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa",
    "ENGINE_THREADS": "1",
    "ENGINE_REPLICAS": "2",
}
_PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
_DESKTOP = {"viewport": {"width": 1280, "height": 900}}


@dataclass(frozen=True)
class Shot:
    """`show` brings the page to what is to be seen; `options` are those of the browser's tab."""

    name: str
    show: Callable[[Any], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    is_whole: bool = True


def detect(tab: Any) -> None:
    """Boxes on a picture."""
    tab.set_input_files("#file", SAMPLES / "crowded.jpg")
    tab.wait_for_selector("#rows tr")


def ask(tab: Any) -> None:
    """Three questions about another."""
    tab.select_option("#model", "shapes-vqa")
    tab.set_input_files("#file", SAMPLES / "sample.jpg")
    tab.fill("#prompts", QUESTIONS)
    tab.click("#ask:enabled")
    tab.wait_for_selector(".said")


SHOTS = (
    Shot("playground-light", detect, {**_DESKTOP, "device_scale_factor": 1.5}),
    Shot("playground-dark", ask, {**_DESKTOP, "device_scale_factor": 1.5, "color_scheme": "dark"}),
    Shot("playground-phone", detect, {**_PHONE, "device_scale_factor": 2}, is_whole=False),
)


def as_webp(png: bytes) -> bytes:
    """As good as fits into `MAX_BYTES`. Raises ValueError where nothing does."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    raise ValueError(f"a picture of {image.width} x {image.height} takes more than {MAX_BYTES} bytes")


def take(browser: Any, url: str, shot: Shot) -> bytes:
    """One of them, encoded. Raises playwright's TimeoutError where the page does not get there."""
    context = browser.new_context(**shot.options)
    tab = context.new_page()
    tab.set_default_timeout(120_000)
    tab.goto(url + "/")
    tab.wait_for_selector("article.pool")
    shot.show(tab)
    tab.mouse.move(0, 0)
    tab.wait_for_timeout(12_000)  # for the lines of the last minute to show something
    png: bytes = tab.screenshot(full_page=shot.is_whole)
    context.close()
    return as_webp(png)


@contextmanager
def some_traffic(url: str) -> Iterator[None]:
    """A few requests a second for both models, so that the live view has something to tell."""
    ended = threading.Event()

    def ask_on() -> None:
        picture = (SAMPLES / "portrait.jpg").read_bytes()
        asked: tuple[dict[str, str], ...] = (
            {"model_id": "shapes-detect"},
            {"model_id": "shapes-detect"},
            {"model_id": "shapes-vqa", "prompt": "how many shapes are there?"},
        )
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            number = 0
            while not ended.wait(0.15 + 0.1 * (number % 5)):
                number += 1
                client.post(
                    "/inference",
                    params=asked[number % 3],
                    content=picture,
                    headers={"content-type": "image/jpeg"},
                ).raise_for_status()

    thread = threading.Thread(target=ask_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Write them all; prints one line for each."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to (default: deploy/screenshots)")
    folder: Path = parser.parse_args(arguments).out
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--lame-duck", "0"]
    with headless_browser() as browser, start_process(command, _ENVIRONMENT) as server:
        with some_traffic(server.url):
            for shot in SHOTS:
                encoded = take(browser, server.url, shot)
                (folder / f"{shot.name}.webp").write_bytes(encoded)
                print(f"{shot.name}.webp {len(encoded)} bytes")
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
