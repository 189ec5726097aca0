"""The page at `/` in a real browser, against a real server: what people do there, and what they see."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.keys import CLIENT, write_keys
from tests.serving import RunningServer, running_server

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
SAMPLES = Path(__file__).parents[1] / "models" / "demo" / "samples"
TIMEOUT = 40_000


WATCHING = """
addEventListener("securitypolicyviolation", e => console.error("CSP", e.violatedDirective, e.blockedURI));
const plain = window.fetch;
window.fetch = async (...request) => {
  const response = await plain(...request);
  if (request[0].includes("/inference")) response.clone().json().then(body => { window.answer = body; });
  return response;
};
"""
"""Of the page itself nothing is changed; what the server answers is kept for the test."""


def browser_path(installed: str) -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = (path for name in names if (path := shutil.which(name)))
    return next(found, installed if Path(installed).exists() else None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        path = browser_path(driver.chromium.executable_path)
        if path is None:
            pytest.skip("neither Chromium nor Chrome is on this machine")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("playground")
    (folder / "broken.pt").write_bytes(b"no weights")
    config = folder / "engine.toml"
    config.write_text('[models.broken]\nweights = "broken.pt"\nfamily = "yolo"\ntask = "detect"\n')
    environment = {"ENGINE_LOAD_AT_START": "shapes-detect,shapes-vqa"}
    with running_server("--config", str(config), environment=environment) as server:
        yield server


class Page:
    """A tab that notes what it asks for and what goes wrong in it."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(TIMEOUT)
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda said: said.type == "error" and self.wrong.append(said.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.add_init_script(WATCHING)
        self.tab.goto(url + "/")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tab, name)

    def until(self, condition: str, timeout: float = 60.0) -> None:
        """Until the expression is true. The browser's own waiting would evaluate text, which the policy forbids."""
        deadline = time.monotonic() + timeout
        while not self.tab.evaluate(condition):
            assert time.monotonic() < deadline, condition
            self.tab.wait_for_timeout(50)

    @property
    def num_inferences(self) -> int:
        return sum("/inference" in url for url in self.asked)

    def give(self, name: str = "sample.jpg") -> dict[str, Any]:
        """Pick a file; the answer's JSON."""
        self.tab.evaluate("window.answer = null")
        self.tab.set_input_files("#file", SAMPLES / name)
        self.tab.wait_for_selector("#rows tr")
        self.until("window.answer")
        body: dict[str, Any] = self.tab.evaluate("window.answer")
        return body

    def pixel(self, x: float, y: float) -> list[int]:
        """Of the canvas, at a place in the picture."""
        return list(
            self.tab.evaluate(
                """([x, y]) => { const c = document.getElementById("canvas");
                return [...c.getContext("2d").getImageData(x * c.width / 640, y * c.height / 480, 1, 1).data]; }""",
                [x, y],
            )
        )


@pytest.fixture
def page(browser: Any, server: RunningServer) -> Iterator[Page]:
    page = Page(browser, server.url)
    page.wait_for_selector("article.pool")
    page.until("document.getElementById('model').options.length > 5")
    yield page
    page.context.close()
    assert page.wrong == []
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked), "no other host"


def test_boxes_stand_where_the_answer_says(page: Page) -> None:
    answer = page.give()
    shown = [prediction for prediction in answer["predictions"] if prediction["confidence"] >= 0.25]
    assert len(shown) >= 4 and page.locator("#rows tr").count() == len(shown)
    edges = []
    for prediction in shown:
        box = prediction["box"]
        middle_x, middle_y = (box["x1"] + box["x2"]) / 2, (box["y1"] + box["y2"]) / 2
        edges += [(box["x1"], middle_y), (box["x2"], middle_y), (middle_x, box["y2"])]
    drawn = [page.pixel(*edge) for edge in edges]
    page.locator("#confidence").evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')) }")
    plain = [page.pixel(*edge) for edge in edges]
    assert all(before != after for before, after in zip(drawn, plain, strict=True))
    for index in range(len(shown)):
        left, right, _ = drawn[3 * index : 3 * index + 3]
        assert all(abs(a - b) < 60 for a, b in zip(left, right, strict=True)), "both in the label's colour"


def test_slider_and_labels_filter_without_asking_again(page: Page) -> None:
    answer = page.give("crowded.jpg")
    assert page.num_inferences == 1
    for least in (0.05, 0.5, 0.95):
        page.locator("#confidence").evaluate(
            f"e => {{ e.value = {least}; e.dispatchEvent(new Event('input')) }}"
        )
        count = sum(prediction["confidence"] >= least for prediction in answer["predictions"])
        assert page.locator("#rows tr").count() == count
        assert page.inner_text("#summary") == f"{count} found"
    page.locator("#confidence").evaluate("e => { e.value = 0.5; e.dispatchEvent(new Event('input')) }")
    crosses = page.locator("#rows td.label", has_text="cross").count()
    before = page.locator("#rows tr").count()
    page.click(".chip:has-text('cross')")
    assert crosses and page.locator("#rows tr").count() == before - crosses
    assert page.get_attribute(".chip:has-text('cross')", "aria-pressed") == "false"
    assert page.num_inferences == 1


def test_hovering_marks_the_row_and_names_what_is_there(page: Page) -> None:
    box = page.give()["predictions"][0]["box"]
    bounds = page.locator("#canvas").bounding_box()
    scale = bounds["width"] / 640
    page.mouse.move(
        bounds["x"] + (box["x1"] + box["x2"]) / 2 * scale, bounds["y"] + (box["y1"] + box["y2"]) / 2 * scale
    )
    page.wait_for_selector("#rows tr.marked")
    assert page.is_visible("#tip")


def test_several_questions_about_one_picture_are_one_request(page: Page) -> None:
    page.select_option("#model", "shapes-vqa")
    page.click("[data-sample='sample.jpg']")
    page.fill("#prompts", "how many shapes are there?\nis there a circle?")
    page.click("#ask:enabled")
    page.wait_for_selector(".said")
    assert page.num_inferences == 1
    assert page.locator(".said .dim").all_inner_texts() == [
        "how many shapes are there?",
        "is there a circle?",
    ]
    assert page.locator(".said .big").all_inner_texts()[0] == "5"
    assert "infer" in page.get_attribute("#bar", "aria-label")
    page.click("summary")
    assert "prompts=" in page.inner_text("#code-text") and page.inner_text("#code-text").startswith("curl ")
    page.click("#code-python")
    compile(page.inner_text("#code-text"), "example", "exec")


def test_a_model_that_cannot_load_says_why(page: Page) -> None:
    page.select_option("#model", "broken")
    page.until("document.getElementById('model-note').textContent.includes('first question loads it')")
    page.click("[data-sample='sample.jpg']")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error-code") == "weights_invalid"
    assert page.inner_text("#error-text").startswith("The weights of broken are damaged")
    page.wait_for_selector("[data-model='broken'] .trouble")
    page.wrong[:] = [
        text for text in page.wrong if "503" not in text
    ]  # the browser's own line about the status


def test_the_live_view_sees_a_worker_killed_and_come_back(page: Page, server: RunningServer) -> None:
    card = "article[data-model='shapes-detect']"
    before = int(page.inner_text(f"{card} .fact-restarts dd"))
    page.evaluate(
        """() => { window.states = new Set(); new MutationObserver(() => document.querySelectorAll(
        "article[data-model='shapes-detect'] .replica").forEach(e => states.add(e.className)))
        .observe(document.getElementById("pools"), { childList: true }); }"""
    )
    model = server.get("/models/shapes-detect")
    # it has other workers or none: every one of them goes, so that the state is seen at the next look
    for replica in model["replicas"]:
        os.kill(replica["pid"], signal.SIGSTOP)
        os.kill(replica["pid"], signal.SIGKILL)
    wanted = before + len(model["replicas"])
    page.until(f'Number(document.querySelector("{card} .fact-restarts dd").textContent) === {wanted}')
    page.until(f"document.querySelector(\"{card} .pill\").textContent === 'ready'")
    assert page.give()["predictions"]
    pids = {replica["pid"] for replica in server.get("/models/shapes-detect")["replicas"]}
    assert not pids & {replica["pid"] for replica in model["replicas"]}
    assert "replica ready" in page.evaluate("[...states]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(
    browser: Any, server: RunningServer, scheme: str
) -> None:
    options = {
        "viewport": {"width": 390, "height": 844},
        "color_scheme": scheme,
        "has_touch": True,
        "is_mobile": True,
    }
    page = Page(browser, server.url, **options, device_scale_factor=2)
    page.until("document.getElementById('model').options.length > 5")
    page.give()
    page.click("summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for control in (
        "#pick",
        "#photograph",
        "#url",
        "#model",
        "#ask",
        "#confidence",
        ".chip",
        "#code-python",
        ".pool",
    ):
        bounds = page.locator(control).first.bounding_box()
        assert bounds["x"] >= 0 and bounds["x"] + bounds["width"] <= 390, control
        page.locator(control).first.scroll_into_view_if_needed()
    page.context.close()
    assert page.wrong == []


def test_a_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("o")
    chooser.value.set_files(SAMPLES / "sample.jpg")
    page.wait_for_selector("#rows tr")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
        if seen[-1] == "TR":
            break
    assert {"pick", "photograph", "url", "model", "ask", "confidence", "TR"} <= set(seen)
    page.keyboard.press("ArrowDown")
    assert (
        page.locator("#rows tr")
        .nth(1)
        .evaluate("e => e === document.activeElement && e.className === 'marked'")
    )
    page.keyboard.press("m")
    assert page.evaluate("document.activeElement.id") == "model"
    page.select_option("#model", "shapes-vqa")
    page.focus("#prompts")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".said")


def test_with_keys_the_page_asks_for_one_and_keeps_it_in_its_tab(browser: Any, tmp_path: Path) -> None:
    environment = {"ENGINE_KEYS_FILE": str(write_keys(tmp_path))}
    with running_server(environment=environment) as server:
        page = Page(browser, server.url)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", CLIENT)
        page.keyboard.press("Enter")
        page.wait_for_selector("article.pool")
        page.until("document.getElementById('model').options.length > 5")
        assert page.give()["predictions"]
        assert page.evaluate("localStorage.length") == 0 and page.evaluate("document.cookie") == ""
        assert not any(CLIENT in url for url in page.asked) and CLIENT not in page.content()
        # a viewer still watches: the server must leave without waiting for it, which running_server asks for
        assert server.stop() == 0
        page.context.close()
        assert {text for text in page.wrong if "401" not in text and "ERR_" not in text} == set()
